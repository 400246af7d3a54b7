import hashlib
import json
from datetime import UTC, datetime

import pytest

from projects.pillsnap.chain.integration import integrate
from projects.pillsnap.chain.manifest import read_settings, write_manifest
from projects.pillsnap.chain.splitting import split
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.errors import ConfigError, DataError


@pytest.fixture
def cut(integrated):
    """A data set after `split`."""
    split(integrated)
    return integrated


def test_the_manifest_counts_and_hashes_everything(cut):
    write_manifest(cut, size_px=64, now=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC))
    found = json.loads((cut / "manifest.json").read_text())
    assert found["name"] == "pillsnap"
    assert found["version"] == "1.0.0"
    assert found["created_date"] == "2026-11-21T12:00:00+00:00"
    assert (found["num_classes"], found["total_images"]) == (4, 200)
    assert sum(fold["images"] for fold in found["splits"].values()) == 200
    assert sum(fold["groups"] for fold in found["splits"].values()) == 80
    for number in range(1, 5):
        assert sum(fold["classes"][f"K-00000{number}"] for fold in found["splits"].values()) == 50
    for fold in found["splits"].values():
        assert fold["studio"] + fold["real"] == fold["images"] == sum(fold["classes"].values())
    assert sum(part["images"] for part in found["others"].values()) == 24
    for path, sha256 in (found["files"] | found["hashes"]).items():
        assert hashlib.sha256((cut / path).read_bytes()).hexdigest() == sha256
    assert len(found["files"]) == 224
    assert sorted(found["hashes"]) == ["captures.csv", "class_mapping.json", "integration_stats.json", "splits.json"]


def test_the_preprocessing_is_that_of_the_one_preprocessor(cut, tmp_path):
    wanted = UnifiedPreprocessor(size_px=128, clahe=False)
    write_manifest(cut, preprocessing=wanted.get_config())
    found = json.loads((cut / "manifest.json").read_text())
    assert UnifiedPreprocessor.from_config(found["preprocessing"]) == wanted
    assert found["preprocessing_digest"] == wanted.digest()
    assert write_manifest(cut).manifest["preprocessing_digest"] == UnifiedPreprocessor().digest()
    with pytest.raises(ConfigError, match="the preprocessing cannot be used: size_px is 13, allowed"):
        write_manifest(cut, size_px=13)
    with pytest.raises(ConfigError, match="the preprocessing cannot be used: preprocessing key sharpen is unknown"):
        write_manifest(cut, preprocessing=wanted.get_config() | {"sharpen": 1})
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(DataError, match=r"p\.json holds a JSON list; it must be an object"):
        read_settings(tmp_path / "p.json")


def test_the_date_stays_while_all_else_does(cut):
    first = write_manifest(cut, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    assert first.changed == ("made",)
    before = (cut / "manifest.json").read_bytes()
    again = write_manifest(cut, now=lambda: datetime(2026, 2, 2, tzinfo=UTC))
    assert again.changed == ()
    assert again.manifest["created_date"] == "2026-01-01T00:00:00+00:00"
    assert (cut / "manifest.json").read_bytes() == before
    other = write_manifest(cut, version="1.1.0", now=lambda: datetime(2026, 3, 3, tzinfo=UTC))
    assert other.changed == ("version",)
    assert json.loads((cut / "manifest.json").read_text())["created_date"].startswith("2026-03-03")
    split(cut, seed=5)
    assert write_manifest(cut, version="1.1.0").changed == ("splits", "others", "hashes")
    (cut / "manifest.json").write_text("{")
    assert write_manifest(cut).changed == ("replaced one that could not be read",)
    (cut / "manifest.json").write_text("{}")
    assert write_manifest(cut).changed == ("replaced one of another form",)


def test_a_photo_that_changed_behind_a_link_is_found(cut, raw):
    link = next((cut / "combined" / "K-000002").glob("studio_*"))
    content = bytearray(link.read_bytes())
    content[-3] ^= 1
    link.resolve().write_bytes(content)
    with pytest.raises(
        DataError, match=r"studio_.*\.jpg has sha256 \w{12}, \w{12} was integrated: its bytes changed since"
    ):
        write_manifest(cut)
    assert not (cut / "manifest.json").exists()


def test_an_earlier_step_that_ran_again_is_found(cut, roots):
    for path in (roots.others / "K-900001").iterdir():
        path.unlink()
    integrate(cut, roots)
    with pytest.raises(
        DataError,
        match=r"captures\.csv has sha256 .* but splits\.json was made from .*: it changed since; "
        r"run `python -m projects\.pillsnap\.split`, `manifest` again",
    ):
        write_manifest(cut)
    split(cut)
    assert write_manifest(cut).manifest["others"]["tune"]["images"] == 6


def test_names_must_say_something(cut):
    for key in ("name", "version"):
        with pytest.raises(ConfigError, match=f"the {key} of the data set is ' '; it must not be empty"):
            write_manifest(cut, **{key: " "})
