import json

from projects.redheart.data.quality import keep_good_stories, label_shares
from projects.redheart.data.stories import stories_of
from projects.redheart.standin import StandinConfig, make_stories
from tests.fabricate.stories import story_objects


def test_planted_copies_leave_and_are_written_down():
    objects, copies = make_stories(StandinConfig(num_stories=200, near_duplicate_share=0.1))
    stories, reading = stories_of(objects, "x")
    told = []
    kept, quality = keep_good_stories(stories, reading, on_progress=lambda *state: told.append(state))
    assert {entry["id"] for entry in quality.removed} == {copy["id"] for copy in copies}
    assert {entry["like"] for entry in quality.removed} <= set(kept.ids)
    assert all(92 <= entry["ratio"] <= 100 for entry in quality.removed)
    assert (quality.num_read, quality.num_kept, len(kept)) == (200, 180, 180)
    assert "20 of 200 stories are like an earlier one" in quality.warnings[-1]
    assert told[-1] == (200, 200)
    assert json.loads(json.dumps(quality.as_dict()))["n_kept"] == 180


def test_nothing_to_remove_and_shares():
    stories, reading = stories_of(story_objects(34), "x")
    kept, quality = keep_good_stories(stories, reading)
    assert kept.ids == stories.ids
    assert quality.removed == []
    assert quality.warnings == reading.warnings
    assert quality.shares["no label"] == round(2 / 34, 4)
    assert abs(sum(label_shares(stories).values()) - 1) < 1e-3
