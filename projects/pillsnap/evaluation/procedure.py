"""The detailed evaluation of a finished run: passes, numbers, figures and pages, in its folder `evaluation/`."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from projects.pillsnap.evaluation import figures
from projects.pillsnap.evaluation.accuracy import FoldPhotos, confusion_counts, look_alikes
from projects.pillsnap.evaluation.attributes import attribute_scores
from projects.pillsnap.evaluation.conditions import CLEAN, Condition, standard_conditions
from projects.pillsnap.evaluation.content import (
    agreement,
    clean_part,
    floor_part,
    part_named,
    retrieval_part,
    stress_part,
    too_few_to_tune,
    tuned,
)
from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.evaluation.open_set_scores import OpenSetSample, none_of_these_content, open_set_report
from projects.pillsnap.evaluation.pages import markdown
from projects.pillsnap.evaluation.passes import KeptPasses, Outputs, predict_photos
from projects.pillsnap.evaluation.run_access import (
    HoldsOthers,
    OpenedRun,
    SwapsBackgrounds,
    backgrounds_of,
    class_metadata,
    device_named,
    knows_drugs,
    open_run,
    others_domain,
    others_of,
    predicted_by_the_run,
)
from projects.pillsnap.evaluation.two_samples import TwoSampleIntervals
from shared.atomic import write_bytes, write_json, write_text
from shared.base_data import Progress
from shared.errors import ConfigError
from shared.report.figure_style import png_bytes
from shared.report.figures import confusion_figure
from shared.session import progress_bars

SCHEMA = 1
TARGET_CLASSES = 100
"""Pills that the project's targets are about; fewer are an easier question."""

NONE_OF_THESE_FILE = "none_of_these.json"
KNOWN_FOLDS = (("calibrate", "calibrate"), ("accept", "threshold"))
"""Folds that 'none of these' is tuned on, and what for."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What a detailed evaluation can be told.

    Attributes:
        base_rate: Share of photos of none of the classes that the probability of it is stated for, in (0, 1).
        accept_known: Share of photos of the classes that must still be answered, in (0, 1].
        batch_size: Photos in one pass of the network.
        device: "auto", "cpu" or "cuda".
        draws: Bootstrap draws.

    Raises:
        ConfigError: If a value is out of range.
    """

    base_rate: float = 0.1
    accept_known: float = 0.95
    batch_size: int = 64
    device: str = "auto"
    draws: int = 2000

    def __post_init__(self) -> None:
        for option, share, highest in (("base-rate", self.base_rate, False), ("accept-known", self.accept_known, True)):
            if not (0.0 < share < 1.0 or (highest and share == 1.0)):
                allowed = "a share above 0, at most 1" if highest else "a share between 0 and 1"
                raise ConfigError(f"--{option} is {share}, allowed: {allowed}")
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size is {self.batch_size}, allowed: 1 or more")
        if self.draws < 100:
            raise ConfigError(f"--draws is {self.draws}, allowed: 100 or more")


def evaluate_run(path: Path, settings: EvaluationSettings, console: Console) -> tuple[Path, dict[str, Any]]:
    """Evaluate a finished run on its own test fold in detail.

    Writes evaluation.json, evaluation.md, none_of_these.json (where it can be fitted) and figures into the run's folder
    `evaluation/`; `evaluation/logits/` keeps each pass, so a killed call goes on with the condition it was at.

    Args:
        path: Run directory or a link to it.
        settings: See there.
        console: Where the progress is shown.

    Returns:
        The folder, and the content of evaluation.json.

    Raises:
        UserError: One sentence on what must change, see `open_run` and `KeptPasses`.
    """
    device = device_named(settings.device)
    with progress_bars(console) as progress:
        opened = open_run(path, progress)
        opened.module.to(device)
        conditions = standard_conditions(backgrounds_of(opened.datamodule))
        kept = KeptPasses(opened.folder / "logits", opened.final_sha256, opened.datamodule.preprocess, progress)
        content, drawn = _Evaluation(opened, settings, kept, conditions, progress).content()
    paths = _write_figures(opened.folder, drawn)
    write_json(opened.folder / "evaluation.json", _plain(content) | {"figures": paths})
    write_text(opened.folder / "evaluation.md", markdown(content, paths))
    return opened.folder, content


class _Evaluation:
    """One evaluation: what is passed from part to part."""

    def __init__(
        self,
        opened: OpenedRun,
        settings: EvaluationSettings,
        kept: KeptPasses,
        conditions: Sequence[Condition],
        progress: Progress,
    ) -> None:
        self.opened, self.settings, self.kept, self.conditions = opened, settings, kept, conditions
        self.progress = progress
        self.intervals = TwoSampleIntervals(opened.loaded.settings.seed, settings.draws)
        self.device = next(opened.module.parameters()).device
        self.drawn: dict[str, Figure] = {}

    def content(self) -> tuple[dict[str, Any], dict[str, Figure]]:
        """Content of evaluation.json without the figures, and the figures by title."""
        opened = self.opened
        photos = opened.photos(opened.fold_rows("test", "test"))
        outputs: dict[str, Outputs] = {}
        for row in self.conditions:
            self.progress("conditions", len(outputs), len(self.conditions))
            outputs[row.name] = self._test_pass(row, photos)
        self.progress("conditions", len(outputs), len(self.conditions))
        logits = {name: opened.calibrated(found["logits"]) for name, found in outputs.items()}
        alike = look_alikes(class_metadata(opened.datamodule), photos.classes)
        clean = clean_part(logits[CLEAN], photos, alike, self.intervals)
        stress = stress_part(logits, self.conditions, photos, self.intervals)
        self.drawn["Top-1 and top-5"] = figures.accuracy_figure(clean["scores"])
        self.drawn["Confusion matrix"] = confusion_figure(confusion_counts(logits[CLEAN], photos), photos.labels)
        self.drawn["Stress"] = figures.stress_figure(stress)
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "project": opened.loaded.settings.project,
            "experiment": opened.loaded.settings.experiment,
            "run": opened.loaded.run.path.name,
            "final_sha256": opened.final_sha256,
            "source": opened.datamodule.index.source,
            "seed": opened.loaded.settings.seed,
            "draws": self.settings.draws,
            "has_targets": len(photos.classes) >= TARGET_CLASSES and knows_drugs(opened.datamodule),
            "clean": clean,
            "stress": stress,
            "agreement": agreement(logits[CLEAN], photos, predicted_by_the_run(opened.loaded.run.path)),
        }
        content["floor"] = floor_part(opened.floor(photos.rows, self.progress), logits[CLEAN], photos, self.intervals)
        content |= self._open_set(logits[CLEAN], photos)
        content |= self._attributes(outputs[CLEAN], photos)
        content |= self._retrieval(outputs[CLEAN], photos)
        return content | {"notes": self._notes()}, self.drawn

    def _test_pass(self, condition: Condition, photos: FoldPhotos) -> Outputs:
        """Outputs for the test photos under one condition."""
        datamodule = self.opened.datamodule
        change = condition.change

        def photo(place: int) -> NDArray[np.uint8]:
            row = int(photos.rows[place])
            if change is None:
                assert isinstance(datamodule, SwapsBackgrounds)
                return datamodule.photo_on(row, condition.level)
            # Of the photo alone, so that neither order nor batch size changes what it is exposed to.
            return change(datamodule.photo(row), zlib.crc32(f"{condition.name}/{photos.ids[place]}".encode()))

        return self._pass(f"test-{condition.name}", photos.ids, photo)

    def _pass(self, name: str, ids: Sequence[str], photo: Callable[[int], NDArray[np.uint8]]) -> Outputs:
        opened = self.opened
        return self.kept.get(
            name,
            ids,
            lambda advance: predict_photos(
                opened.module,
                opened.datamodule.preprocess,
                photo,
                len(ids),
                batch_size=self.settings.batch_size,
                device=self.device,
                advance=advance,
            ),
        )

    def _open_set(self, clean: NDArray[np.float64], photos: FoldPhotos) -> dict[str, Any]:
        """Tune 'none of these' on calibrate, accept and the held-out classes for tuning; measure it on the others.

        Where that cannot be done, none_of_these.json of an earlier call goes: it is not what these settings and data
        give, and the export would ship it.
        """
        opened, settings = self.opened, self.settings
        tune, held_out = (others_of(opened.datamodule, part) for part in ("tune", "test"))
        known = {fold: self._known_photos(fold, purpose) for fold, purpose in KNOWN_FOLDS} if tune else {}
        sizes = [len(known[fold]) if fold in known else 0 for fold, _ in KNOWN_FOLDS]
        here = part_named(photos, domain := others_domain(opened.datamodule))
        missing = too_few_to_tune(sizes[0], sizes[1], len(tune))
        if missing is None and not held_out:
            missing = "these data hold no photos of held-out classes to measure on"
        if missing is None and not here.any():
            missing = f"no test photo of the classes is of the domain {domain}, as those of the held-out classes are"
        if missing is not None:
            (opened.folder / NONE_OF_THESE_FILE).unlink(missing_ok=True)
            return {"open_set_missing": missing}
        calibrate, accept = (self._known_logits(fold, known[fold]) for fold, _ in KNOWN_FOLDS)
        fitted, areas, tuned_on = tuned(
            calibrate,
            accept,
            self._others_logits("tune", tune),
            base_rate=settings.base_rate,
            accept_known=settings.accept_known,
        )
        of_file = none_of_these_content(fitted, areas, tuned_on, opened.final_sha256)
        write_json(opened.folder / NONE_OF_THESE_FILE, of_file)
        sample = OpenSetSample(
            known=clean[here],
            unknown=self._others_logits("test", held_out),
            right=(clean.argmax(axis=1) == photos.target)[here],
            known_group=photos.group[here].astype(np.int64),
            unknown_group=np.unique([kcode for _, kcode in held_out], return_inverse=True)[1].astype(np.int64),
        )
        report = open_set_report(sample, fitted, base_rate=settings.base_rate, intervals=self.intervals)
        self._draw_open_set(fitted, sample, report)
        return {"open_set": {"domain": domain} | report, "tuning": of_file["tuning"]}

    def _draw_open_set(self, fitted: NoneOfThese, sample: OpenSetSample, report: Mapping[str, Any]) -> None:
        stated = fitted.probability(sample.known), fitted.probability(sample.unknown)
        self.drawn["None of these"] = figures.open_set_figure(
            *stated, fitted.threshold, report["curve"], self.settings.base_rate
        )

    def _known_photos(self, fold: str, purpose: str) -> FoldPhotos:
        """Photos of a fold that are of the held-out classes' domain."""
        photos = self.opened.photos(self.opened.fold_rows(fold, purpose))
        return self.opened.photos(photos.rows[part_named(photos, others_domain(self.opened.datamodule))])

    def _known_logits(self, fold: str, photos: FoldPhotos) -> NDArray[np.float64]:
        photo = self.opened.datamodule.photo
        found = self._pass(f"{fold}-{CLEAN}", photos.ids, lambda place: photo(int(photos.rows[place])))
        return self.opened.calibrated(found["logits"])

    def _others_logits(self, part: str, photos: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        datamodule = self.opened.datamodule
        assert isinstance(datamodule, HoldsOthers)
        read, paths = datamodule.other_photo, [path for path, _ in photos]
        # No ledger vouches for these photos as it does for those of the folds: their bytes name the kept pass.
        ids = [f"{path} {datamodule.other_digest(path)}" for path in paths]
        found = self._pass(f"others_{part}-{CLEAN}", ids, lambda place: read(paths[place]))
        return self.opened.calibrated(found["logits"])

    def _attributes(self, outputs: Outputs, photos: FoldPhotos) -> dict[str, Any]:
        """Accuracy of the attribute heads, where the network has some."""
        names = self.opened.module.attribute_names
        if not names:
            return {}
        index = self.opened.datamodule.index
        train = self.opened.fold_rows("train", "fit")
        codes, of_train = (
            {name: index.meta[name][rows].astype(np.int64) for name in names} for rows in (photos.rows, train)
        )
        logits = {name: outputs[f"attribute/{name}"] for name in names}
        return {"attributes": attribute_scores(logits, codes, of_train, names, photos.group, self.intervals)}

    def _retrieval(self, outputs: Outputs, photos: FoldPhotos) -> dict[str, Any]:
        """Front to back retrieval, where the data know the pill and the side."""
        known, datamodule = self.opened.pills(photos.rows), self.opened.datamodule
        if known is None:
            return {"retrieval_missing": "these data do not say which physical pill a photo shows and from which side"}

        def square(place: int) -> NDArray[np.uint8]:
            square_of = datamodule.preprocess.square(datamodule.photo(int(photos.rows[place])))
            return np.asarray(square_of, dtype=np.uint8)

        parts = retrieval_part(outputs["features"], square, photos, *known, self.intervals)
        if not parts:
            return {"retrieval_missing": "no pill of the test fold was photographed from both sides"}
        self.drawn["Front to back"] = figures.retrieval_figure(parts)
        return {"retrieval": parts}

    def _notes(self) -> list[str]:
        notes = [
            f"Final network and calibrator {self.opened.final_sha256[:12]}, the pair that the run's own test measured; "
            "no choice was made on the test fold.",
            "Calibrated as the server does, without knowing a photo's domain.",
            "Stress conditions act on the decoded photo before the preprocessor; light is changed in linear light.",
            "JPEG acts at the photo's own size below 512 px, so its blocks cover more of a pill than they do at 512.",
        ]
        if self.opened.datamodule.index.source == "stand-in":
            notes.append("Stand-in data: the photos are rendered and say nothing about real ones.")
        if not any(row.change is None for row in self.conditions):
            notes.append("These data cannot put a pill on another background, so the stress table has no such row.")
        else:
            notes.append(
                "Backgrounds are rendered: a rendered photo again in its own scene with nothing but the surface "
                "swapped; a studio photograph gets a whole rendered scene around it, so its light and pose change too."
            )
        return notes + [str(sentence) for sentence in self.opened.datamodule.findings()[1]]


def _write_figures(folder: Path, drawn: Mapping[str, Figure]) -> dict[str, str]:
    """Write the figures; title to file name."""
    paths = {title: f"{title.lower().replace(' ', '_').replace('-', '')}.png" for title in drawn}
    for title, figure in drawn.items():
        write_bytes(folder / paths[title], png_bytes(figure))
    return paths


def _plain(content: Any) -> Any:
    """The content for JSON, which has no NaN: an undefined number is None."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
