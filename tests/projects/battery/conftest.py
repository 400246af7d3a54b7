"""Fabricated CT files for the tests of the battery project."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def battery_ct(repo_root: Path) -> ModuleType:
    """Return the module tests/fabricate/battery_ct.py; importable however pytest was started."""
    name = "fabricated_battery_ct"
    spec = importlib.util.spec_from_file_location(name, repo_root / "tests" / "fabricate" / "battery_ct.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def slices(battery_ct: ModuleType, tmp_path: Path):
    """Return 36 slices of six batteries below `tmp_path / "data"`."""
    return battery_ct.write_ct(tmp_path / "data")
