"""Real photographs behind the same folds: the NIH reference pills, and scenes rendered around them."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.data.folded import PhotoDataModule, content_digests, decoded, recorded
from projects.pillsnap.data.nih import NihPhoto, load_nih
from projects.pillsnap.data.rendered_nih import render_all, rendered_folder, rendered_name, scene_bytes
from projects.pillsnap.standin import BACKGROUNDS
from shared.errors import ConfigError
from shared.packed_strings import PackedStrings
from shared.readers import FolderReader, ImageReader
from shared.sample_index import SampleIndex
from shared.splits import cut_published, split_groups

PROTOCOLS = ("pill", "labeler")
TARGETS = ("shape_color", "shape", "color")
DOMAINS = {"studio": ("studio",), "rendered": ("rendered",), "both": ("studio", "rendered")}


class NihDataModule(PhotoDataModule):
    """2,618 studio photographs of 1,309 pills, front and back; classes are looks, not drugs.

    Args:
        root: Folder with nih_pills.zip and labels.csv.
        protocol: "pill": the set's own split, by pill; "labeler": by manufacturer, whose pills resemble each other.
        target: "shape_color", or "shape" or "color" alone.
        min_images: A class with fewer photographs is left out.
        domain: "studio": the photographs; "rendered": consumer scenes rendered around them; "both".
        renders_per_photo: Scenes of each photograph, where there are any.
        rendered_size_px: Side of a rendering.
        labeler_shares: Share of the labelers of each fold under protocol "labeler".
        common: See `PhotoDataModule`.

    Raises:
        ConfigError: If a value is not allowed.
    """

    attributes = ("shape", "color")
    others_domain = "studio"
    """Domain of the photographs in `others`."""

    def __init__(
        self,
        *,
        root: str,
        protocol: str,
        target: str,
        min_images: int,
        domain: str,
        renders_per_photo: int,
        rendered_size_px: int,
        labeler_shares: Mapping[str, float],
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for key, value, allowed in (
            ("protocol", protocol, PROTOCOLS),
            ("target", target, TARGETS),
            ("domain", domain, tuple(DOMAINS)),
        ):
            if value not in allowed:
                raise ConfigError(f"data.{key} is {value!r}; allowed are {', '.join(allowed)}")
        for key, number in (("min_images", min_images), ("renders_per_photo", renders_per_photo)):
            if number < 1:
                raise ConfigError(f"data.{key} is {number}; allowed are 1 and above")
        self.root = Path(root)
        self.protocol, self.target, self.min_images = protocol, target, min_images
        self.domains = DOMAINS[domain]
        self.renders_per_photo = renders_per_photo
        self.rendered_size_px = rendered_size_px
        self.labeler_shares = dict(labeler_shares)
        self._photos: list[NihPhoto] = []
        self._number: list[int] = []
        self._small: list[NihPhoto] = []
        self._place: dict[str, int] = {}
        self._readers: dict[str, ImageReader] = {}

    def build_index(self) -> SampleIndex:
        """Read the table, render what is missing, and list the photographs and the renderings of the classes kept."""
        photos, reader = load_nih(self.root)
        self._readers["studio"] = reader
        size = Counter(getattr(photo, self.target) for photo in photos)
        kept = [photo for photo in photos if size[getattr(photo, self.target)] >= self.min_images]
        if not kept:
            raise ConfigError(f"data.min_images is {self.min_images}; the largest class has {max(size.values())}")
        self._small = [photo for photo in photos if size[getattr(photo, self.target)] < self.min_images]
        self._place = {photo.file: place for place, photo in enumerate(kept)}
        left_out = len(photos) - len(kept)
        if left_out:
            self._findings.append(
                f"{left_out} of {len(photos)} photographs are of classes with fewer than {self.min_images} and left out"
            )
        if "rendered" in self.domains:
            self._render(kept)
            self._findings.append("the domain 'rendered' is rendered from the studio photographs, not photographed")
        self._photos, self._number = [], []
        for domain in self.domains:
            copies = self.renders_per_photo if domain == "rendered" else 1
            for photo in kept:
                self._photos += [photo] * copies
                self._number += list(range(copies)) if domain == "rendered" else [-1]
        return self._listed()

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """The set's own split with its val part cut in three, or one by labeler."""
        if self.protocol == "labeler":
            return split_groups(index.label, index.group, self.labeler_shares, self.seed)
        published = np.array([photo.split for photo in self._photos])
        return cut_published(published, index.label, index.group, self.seed)

    def read(self, row: int) -> bytes:
        """Bytes of a photograph or of a rendering."""
        photo, number = self._photos[row], self._number[row]
        if number < 0:
            return self._readers["studio"].read(photo.file)
        return self._readers["rendered"].read(rendered_name(photo.file, number))

    def pill_names(self, rows: NDArray[np.int64]) -> list[str]:
        """The physical pill of each row."""
        assert len(self.index) > 0  # building it lists the photographs
        return [self._photos[int(row)].pill_id for row in rows]

    def backgrounds(self) -> tuple[str, ...]:
        """Backgrounds that a pill can be put on."""
        return BACKGROUNDS

    def photo_on(self, row: int, background: str) -> NDArray[np.uint8]:
        """The pill of a row on the given background, (H, W, 3) uint8.

        Of a rendering all else stays as it is; of a studio photograph the first of its scenes is rendered around it.
        """
        assert len(self.index) > row  # building it lists the photographs
        file, number = self._photos[row].file, max(self._number[row], 0)
        studio = decoded(self._readers["studio"].read(file), file)
        content = scene_bytes(
            studio, self._place[file], number, size_px=self.rendered_size_px, seed=0, background=background
        )
        return decoded(content, file)

    def others(self, part: str) -> list[tuple[str, str]]:
        """File and class of the photographs of classes too small to be trained on; `part` is "tune" or "test".

        The classes alternate between the two in the order of their names, so no class is in both.

        Raises:
            KeyError: If there is no such part.
        """
        assert len(self.index) > 0
        names = sorted({getattr(photo, self.target) for photo in self._small})
        parts = {"tune": set(names[::2]), "test": set(names[1::2])}
        chosen = parts[part]
        return [(p.file, getattr(p, self.target)) for p in self._small if getattr(p, self.target) in chosen]

    def other_photo(self, path: str) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) uint8 of one of `others`."""
        return decoded(self._readers["studio"].read(path), path)

    def other_digest(self, path: str) -> str:
        """Sha256 (hex) of the bytes of one of `others`."""
        return hashlib.sha256(self._readers["studio"].read(path)).hexdigest()

    def _render(self, kept: list[NihPhoto]) -> None:
        files = [photo.file for photo in kept]
        folder = rendered_folder(self.cache_folder, files, self.rendered_size_px, self.renders_per_photo, 0)
        render_all(
            files,
            self._readers["studio"],
            folder,
            size_px=self.rendered_size_px,
            per_photo=self.renders_per_photo,
            seed=0,
            on_progress=lambda done, total: self.progress("rendered scenes", done, total),
        )
        self._readers["rendered"] = FolderReader(folder)

    def _listed(self) -> SampleIndex:
        photos = self._photos
        ids = [
            f"studio/{photo.file}" if number < 0 else f"rendered/{rendered_name(photo.file, number)}"
            for photo, number in zip(photos, self._number, strict=True)
        ]
        label, classes = recorded([getattr(photo, self.target) for photo in photos])
        group, group_names = _codes(
            [getattr(photo, {"pill": "pill_id"}.get(self.protocol, self.protocol)) for photo in photos]
        )
        meta, meta_names = {}, {}
        domain = ["studio" if number < 0 else "rendered" for number in self._number]
        columns = {"domain": domain} | {key: [getattr(p, key) for p in photos] for key in ("surface", "shape", "color")}
        for key, values in columns.items():
            meta[key], meta_names[key] = recorded(values)
        digest = content_digests(self.read(row) for row in range(len(photos)))
        return SampleIndex(
            ids=PackedStrings.pack(ids), group=group, group_names=PackedStrings.pack(group_names),
            label=label, classes=classes, digest=digest, meta=meta, meta_names=meta_names, numbers={}, source="real",
        )  # fmt: skip


def _codes(values: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    names, codes = np.unique(np.array(values), return_inverse=True)
    return codes.astype(np.int32), [str(name) for name in names]
