from pathlib import Path

import pytest

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.integration import Roots, integrate
from projects.pillsnap.chain.manifest import write_manifest
from projects.pillsnap.chain.splitting import split
from tests.fabricate.pill_tree import write_pill_tree


@pytest.fixture
def raw(tmp_path) -> Path:
    """A tree of four classes, each with 16 studio and 36 real photos, and four other drugs."""
    return write_pill_tree(tmp_path / "raw")


@pytest.fixture
def roots(raw) -> Roots:
    return Roots(raw / "studio", raw / "real", raw / "others")


@pytest.fixture
def mapped(raw, tmp_path) -> Path:
    """A data set after `map_classes`."""
    map_classes(raw / "top_100_drugs.json", tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def integrated(mapped, roots) -> Path:
    """A data set after `integrate`."""
    integrate(mapped, roots)
    return mapped


@pytest.fixture
def finished(integrated) -> Path:
    """A data set after `manifest`."""
    split(integrated)
    write_manifest(integrated, size_px=64)
    return integrated
