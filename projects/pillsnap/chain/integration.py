"""Bring studio and real photos of each class together in a fixed ratio; say of each class that cannot reach it.

First everything is planned from the roots, with nothing written. Then the plan is carried out. The plan depends on the
photos, the mapping and the settings alone, so the same command after a kill ends with the same bytes.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from projects.pillsnap.chain.captures import (
    DEFAULT_PATTERN,
    DOMAINS,
    OTHER,
    PhotoRow,
    captures_bytes,
    compile_pattern,
)
from projects.pillsnap.chain.class_mapping import ClassMapping, read_mapping
from projects.pillsnap.chain.files import CAPTURES, COMBINED, MAPPING, OTHERS, RENDERED, json_bytes, sha256_bytes
from projects.pillsnap.chain.grouping import join_captures, name_captures
from projects.pillsnap.chain.materialise import Outcome, carry_out
from projects.pillsnap.chain.photo_tree import Skipped, SourcePhoto, scan_root
from projects.pillsnap.chain.selection import Ratio, how_many, take, what_falls_short
from shared.errors import ConfigError, DataError

VERSION = 1

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is."""


@dataclass(frozen=True)
class IntegrationSettings:
    """How photos are chosen.

    Attributes:
        ratio: Studio to real photos of each class.
        min_images: Fewest photos of a class, 1 or more.
        seed: Draws which captures are taken first.
        capture_pattern: Regular expression on the file name without its suffix; its part `capture` names the sitting.
        shared_captures: Whether a capture's name means the same sitting in every class of a domain. Then its photos
            stay together over all classes: they share a table and a light.

    Raises:
        ConfigError: A value is wrong.
    """

    ratio: Ratio = field(default_factory=Ratio)
    min_images: int = 50
    seed: int = 0
    capture_pattern: str = DEFAULT_PATTERN
    shared_captures: bool = False

    def __post_init__(self) -> None:
        if self.min_images < 1:
            raise ConfigError(f"min_images is {self.min_images}; allowed is 1 or more.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; allowed is 0 or more.")
        compile_pattern(self.capture_pattern)


@dataclass(frozen=True)
class Roots:
    """Where the photos are: studio, real, and photos of drugs that are none of the classes."""

    studio: Path
    real: Path
    others: Path | None = None


@dataclass(frozen=True)
class IntegrationPlan:
    """What the data set will hold.

    Attributes:
        dataset: Its folder.
        rows: All its photos, by path.
        source: Path of a photo below the data set -> where it is now.
        stats: What `integration_stats.json` will hold; `shortfalls` among it.
    """

    dataset: Path
    rows: list[PhotoRow]
    source: Mapping[str, Path]
    stats: Mapping[str, Any]

    @property
    def shortfalls(self) -> list[dict[str, Any]]:
        """Classes that fall short: kcode, available, used, short_of."""
        return list(self.stats["shortfalls"])


def integrate(
    dataset: Path,
    roots: Roots,
    settings: IntegrationSettings | None = None,
    *,
    strict: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[IntegrationPlan, Outcome]:
    """Plan and carry out; see `plan_integration` and `materialise.carry_out`.

    Args:
        dataset: Folder with `class_mapping.json`.
        roots: Where the photos are.
        settings: How they are chosen.
        strict: Refuse to write anything where a class falls short.
        on_progress: Told what is being done.

    Raises:
        DataError: As the two say; or `strict` and a class falls short.
    """
    plan = plan_integration(dataset, roots, settings, on_progress=on_progress)
    if strict and plan.shortfalls:
        raise DataError(shortfall_sentence(plan))
    return plan, write_plan(plan, on_progress)


def shortfall_sentence(plan: IntegrationPlan) -> str:
    """Say how many classes fall short and which comes first."""
    first = plan.shortfalls[0]
    return (
        f"{len(plan.shortfalls)} of {plan.stats['num_classes']} classes fall short of the ratio or the minimum, first "
        f"{first['kcode']} (short of: {', '.join(first['short_of'])}); nothing was written, since --strict was given."
    )


def write_plan(plan: IntegrationPlan, on_progress: OnProgress | None = None) -> Outcome:
    """Carry a plan out; see `materialise.carry_out`."""
    return carry_out(
        plan.dataset, plan.rows, plan.source, json_bytes(plan.stats), on_progress=_part(on_progress, "writing")
    )


def plan_integration(
    dataset: Path, roots: Roots, settings: IntegrationSettings | None = None, *, on_progress: OnProgress | None = None
) -> IntegrationPlan:
    """Decide which photos the data set will hold; nothing is written.

    Raises:
        DataError: The mapping or a root is missing or wrong, the same bytes stand under two drugs, or a class has no
            photo at all.
    """
    settings = settings or IntegrationSettings()
    mapping = read_mapping(dataset)
    _check_places(dataset, roots)
    photos, skipped = _scan(roots, mapping, on_progress)
    by_class = _by_class(photos, mapping)
    pattern = compile_pattern(settings.capture_pattern)
    captures, num_unmatched = name_captures(photos, pattern, shared=settings.shared_captures)
    group, identical = join_captures(photos, captures)
    used = [photo for photo in photos if photo.domain == OTHER]
    tables: dict[str, Any] = {}
    for kcode in mapping.classes:
        chosen = _choose(by_class[kcode], captures, settings)
        tables[kcode] = {
            "available": {domain: len(by_class[kcode][domain]) for domain in DOMAINS},
            "used": {domain: sum(photo.domain == domain for photo in chosen) for domain in DOMAINS},
        }
        used += chosen
    rows = sorted((_row(photo, captures[photo.file], group[photo.file]) for photo in used), key=lambda row: row.path)
    stats = _stats(dataset, roots, settings, mapping, rows, tables) | {
        "photos_without_capture": num_unmatched,
        "byte_identical": identical,
        "skipped": {domain: _told(one) for domain, one in skipped.items()},
    }
    return IntegrationPlan(dataset, rows, {_path(photo): photo.file for photo in used}, stats)


def _part(on_progress: OnProgress | None, what: str) -> Callable[[int, int], None] | None:
    return None if on_progress is None else lambda done, total: on_progress(what, done, total)


def _check_places(dataset: Path, roots: Roots) -> None:
    """Refuse roots that the command would write into, and one folder given twice."""
    places = {"studio": roots.studio, "real": roots.real} | ({"others": roots.others} if roots.others else {})
    seen: dict[Path, str] = {}
    for name, root in places.items():
        resolved = root.resolve()
        for written in (COMBINED, OTHERS):
            if resolved.is_relative_to((dataset / written).resolve()):
                raise DataError(f"the {name} root {root} lies in {dataset / written}, which is written; move either.")
        if twin := seen.get(resolved):
            raise DataError(f"the {name} root and the {twin} root are the same folder, {root}.")
        seen[resolved] = name


def _scan(
    roots: Roots, mapping: ClassMapping, on_progress: OnProgress | None
) -> tuple[list[SourcePhoto], dict[str, Skipped]]:
    """Find the photos of all roots, sorted by domain, class and name."""
    photos: list[SourcePhoto] = []
    skipped: dict[str, Skipped] = {}
    for domain, root in ((DOMAINS[0], roots.studio), (DOMAINS[1], roots.real), (OTHER, roots.others)):
        if root is not None:
            found, skipped[domain] = scan_root(root, domain, mapping.classes, _part(on_progress, f"reading {domain}"))
            photos += found
    return photos, skipped


def _by_class(photos: list[SourcePhoto], mapping: ClassMapping) -> dict[str, dict[str, list[SourcePhoto]]]:
    """Return K-code -> domain -> photos; every class must have one at least."""
    found: dict[str, dict[str, list[SourcePhoto]]] = {
        kcode: {domain: [] for domain in DOMAINS} for kcode in mapping.classes
    }
    for photo in photos:
        if photo.domain != OTHER:
            found[photo.kcode][photo.domain].append(photo)
    empty = [kcode for kcode in mapping.classes if not any(found[kcode].values())]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(found)} classes of {MAPPING} have no photo in the studio root or the real root, "
            f"first {empty[0]}; add photos, or take them out of the list of drugs and run map_classes again."
        )
    return found


def _choose(
    by_domain: Mapping[str, list[SourcePhoto]], captures: Mapping[Path, str], settings: IntegrationSettings
) -> list[SourcePhoto]:
    """Return the photos of one class that are used."""
    counts = how_many(len(by_domain["studio"]), len(by_domain["real"]), settings.ratio, settings.min_images)
    chosen: list[SourcePhoto] = []
    for domain, count in zip(DOMAINS, counts, strict=True):
        sittings: defaultdict[str, list[SourcePhoto]] = defaultdict(list)
        for photo in by_domain[domain]:
            sittings[captures[photo.file]].append(photo)
        chosen += take(sittings, count, settings.seed)
    return chosen


def _path(photo: SourcePhoto) -> str:
    return f"{OTHERS if photo.domain == OTHER else COMBINED}/{photo.kcode}/{photo.domain}_{photo.name}"


def _row(photo: SourcePhoto, capture: str, group: str) -> PhotoRow:
    return PhotoRow(_path(photo), photo.kcode, photo.domain, capture, group, photo.size, photo.sha256)


def _told(skipped: Skipped) -> dict[str, Any]:
    content = asdict(skipped)
    return content | {"counts": dict(sorted(skipped.counts.items()))}


def _source(roots: Roots) -> str:
    """Whether the photos were rendered: `make_standin` leaves its marker beside the roots."""
    given = [root for root in (roots.studio, roots.real) if root is not None]
    return "stand-in" if any((root.resolve().parent / RENDERED).is_file() for root in given) else "real"


def _stats(
    dataset: Path,
    roots: Roots,
    settings: IntegrationSettings,
    mapping: ClassMapping,
    rows: list[PhotoRow],
    tables: dict[str, Any],
) -> dict[str, Any]:
    """Return the statistics of the classes, in the order in which they are written."""
    images = Counter(row.domain for row in rows)
    shortfalls = []
    for kcode, table in tables.items():
        available, used = ((table[key]["studio"], table[key]["real"]) for key in ("available", "used"))
        if short_of := what_falls_short(available, used, settings.ratio, settings.min_images):
            shortfalls.append({"kcode": kcode, "short_of": short_of, **table})
    places = {"studio": roots.studio, "real": roots.real, "others": roots.others}
    return {
        "version": VERSION,
        "settings": asdict(settings) | {"ratio": str(settings.ratio)},
        # Relative, so that two checkouts write the same bytes and the links of the data set go the same way.
        "roots": {name: root and os.path.relpath(root.resolve(), dataset.resolve()) for name, root in places.items()},
        "sources": {MAPPING: mapping.sha256},
        "outputs": {CAPTURES: sha256_bytes(captures_bytes(rows))},
        "source": _source(roots),
        "num_classes": len(tables),
        "images": {domain: images[domain] for domain in (*DOMAINS, OTHER)},
        "groups": {domain: len({row.group for row in rows if row.domain == domain}) for domain in (*DOMAINS, OTHER)},
        "other_classes": len({row.kcode for row in rows if row.domain == OTHER}),
        "shortfalls": shortfalls,
        "classes": tables,
    }
