"""The fingerprint changes with everything a network is shown, and with nothing else."""

import dataclasses
from pathlib import Path

import numpy as np

from projects.redheart.data.fingerprint import fingerprint, stamps
from projects.redheart.data.index import story_index
from tests.fabricate.stories import fabricated_stories


def test_every_part_that_is_shown_counts() -> None:
    stories = fabricated_stories(20)
    index, fold = story_index(stories, "real", "out"), np.zeros(20, dtype=np.int8)
    base = fingerprint(stories, index, fold)
    assert base == fingerprint(fabricated_stories(20), index, fold.copy())
    regret = np.zeros_like(stories.targets["regret"])
    changed = [
        dataclasses.replace(stories, title=[*stories.title[:-1], "Another."]),
        dataclasses.replace(stories, action=[*stories.action[:-1], "Another."]),
        dataclasses.replace(stories, text=[text.upper() for text in stories.text]),  # the digest ignores case
        dataclasses.replace(stories, targets=stories.targets | {"regret": regret}),
        dataclasses.replace(stories, label=np.roll(stories.label, 1)),
    ]
    found = {base, *(fingerprint(other, index, fold) for other in changed)}
    found |= {
        fingerprint(stories, index, fold + np.int8(1)),
        fingerprint(stories, story_index(stories, "real", "b"), fold),
    }
    assert len(found) == 8


def test_files_are_stamped_by_their_content(tmp_path: Path) -> None:
    assert stamps(tmp_path) == {}
    (tmp_path / "splits.csv").write_text("")
    (tmp_path / "stories.embedded.x.npy").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert stamps(tmp_path) == {"splits.csv": empty}
