import hashlib
import json
import re

import cv2
import numpy as np
import pytest

from projects.battery.standin import StandinConfig, generate_standin, writer
from shared.errors import ConfigError, DataError

CONFIG = StandinConfig(num_batteries=6, num_slices=36, size_px=48, seed=5, class_shares=(3, 1, 3, 3, 1))


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate_standin(tmp_path_factory.mktemp("standin") / "data", CONFIG, workers=1)


def test_files_have_the_real_format(root):
    images = sorted((root / "images").iterdir())
    assert len(images) == 36
    for path in images:
        assert re.fullmatch(r"CT_(cell|module)_(pouch|cylindrical|prismatic)_\d{4}_[xyz]_\d{4}\.png", path.name)
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (image.shape, image.dtype) == ((48, 48), np.uint8)
        label = json.loads((root / "labels" / f"{path.stem}.json").read_text())
        assert list(label) == ["file_name", "width", "height", "is_normal", "defects", "battery_outline"]
        assert label["file_name"] == path.name
        assert (label["width"], label["height"]) == (48, 48)
        assert label["is_normal"] == (label["defects"] is None)
        outline = np.array(label["battery_outline"])
        assert outline.shape[0] >= 3
        assert outline.min() >= 0
        assert outline.max() < 48
        for defect in label["defects"] or []:
            assert set(defect) == {"class", "box"}
            x, y, width, height = defect["box"]
            assert 0 <= x < x + width <= 48
            assert 0 <= y < y + height <= 48


def test_classes_and_counts_agree_with_the_marker(root):
    marker = json.loads((root / "STANDIN.json").read_text())
    assert marker["complete"] is True
    counts: dict[str, int] = {}
    for path in (root / "labels").iterdir():
        defects = json.loads(path.read_text())["defects"]
        classes = {defect["class"] for defect in defects or [{"class": "normal"}]}
        assert len(classes) == 1
        name = f"{path.name.split('_')[1]}_{classes.pop()}"
        counts[name] = counts.get(name, 0) + 1
    assert counts == marker["counts"]["classes"]
    assert marker["counts"]["slices"] == 36


def test_two_workers_write_the_same_bytes(root, tmp_path):
    assert digests(generate_standin(tmp_path / "two", CONFIG, workers=2)) == digests(root)


def test_complete_set_returns_at_once(root, monkeypatch):
    monkeypatch.setattr(writer, "_write_battery", lambda *args: pytest.fail("wrote a finished battery again"))
    assert generate_standin(root, CONFIG, workers=1) == root


def test_interrupted_set_is_resumed_to_the_same_bytes(root, tmp_path, monkeypatch):
    target = tmp_path / "resumed"
    whole, left = writer._write_battery, [3]

    def dies(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(writer, "_write_battery", dies)
    with pytest.raises(KeyboardInterrupt):
        generate_standin(target, CONFIG, workers=1)
    assert json.loads((target / "STANDIN.json").read_text())["complete"] is False
    next((target / "labels").iterdir()).unlink()  # as if killed inside a battery
    (target / "images" / ".CT_half-abc.png").write_bytes(b"half")
    calls = []
    monkeypatch.setattr(writer, "_write_battery", lambda *args: calls.append(1) or whole(*args))
    seen = []
    generate_standin(target, CONFIG, workers=1, on_progress=lambda done, total: seen.append((done, total)))
    assert digests(target) == digests(root)
    assert len(calls) == 4  # three untouched and the damaged one
    assert 0 < seen[0][0] < 36
    assert seen[-1] == (36, 36)


def test_another_configuration_is_refused_by_name(root):
    before = digests(root)
    with pytest.raises(DataError, match=r"seed is 5, asked for 6"):
        generate_standin(root, StandinConfig(**{**CONFIG.as_dict(), "seed": 6, "class_shares": CONFIG.class_shares}))
    assert digests(root) == before


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "precious.csv").write_text("1")
    with pytest.raises(DataError, match="not empty"):
        generate_standin(tmp_path, CONFIG, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.csv"]


def test_broken_marker_and_bad_workers_are_named(tmp_path):
    (tmp_path / "STANDIN.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        generate_standin(tmp_path, CONFIG)
    with pytest.raises(ConfigError, match="workers"):
        generate_standin(tmp_path / "new", CONFIG, workers=0)
