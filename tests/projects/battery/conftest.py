"""Fabricated CT files for the tests of the battery project."""

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def slices(battery_ct: ModuleType, tmp_path: Path):
    """Return 36 slices of six batteries below `tmp_path / "data"`."""
    return battery_ct.write_ct(tmp_path / "data")
