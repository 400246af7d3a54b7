"""What a sweep does where its data or the files of its swept choices have changed."""

import pytest

from shared.errors import ConfigError
from shared.sweep.data_seen import note_files
from shared.sweep.objective import DATA_CHANGED
from tests.fabricate.toy_sweep import planned, toy_search


@pytest.fixture
def config(tmp_path):
    (tmp_path / "data").mkdir()
    return {"data": {"root": str(tmp_path / "data")}}


def opened(tmp_path, config, said=None, **changes):
    return toy_search(tmp_path, said, config=config, **changes)


def done(search, *rates):
    """Points of these rates, all done."""
    for id in planned(search, *rates):
        with search.ledger().claim(id, job=None) as claim:
            claim.done({"score": 1.0})


def states(search):
    return [view.state for view in search.ledger().points()]


def test_a_finished_sweep_whose_data_changed_is_refused_kept_or_run_again(tmp_path, config):
    search = opened(tmp_path, config)
    done(search, 1e-4, 1e-3)
    note_files(search.folder, 0, {"optimizer.lr": 1e-4}, config["data"])
    opened(tmp_path, config)
    (tmp_path / "data" / "new").write_text("x")
    with pytest.raises(ConfigError, match=r"the data's files .* have changed since 2 points .*on_change=keep .*=rerun"):
        opened(tmp_path, config)
    said = []
    kept = opened(tmp_path, config, said, on_change="keep")
    assert states(kept) == ["done", "done"]
    assert said == ["the data's files have changed: results of before count"]
    assert states(opened(tmp_path, config)) == ["done", "done"], "known from now on"
    (tmp_path / "data" / "new").write_text("xyz")
    rerun = opened(tmp_path, config, said, on_change="rerun")
    assert (rerun.generation, states(rerun)) == (1, [])
    assert said[1:] == ["the data have changed: all points are run again"]
    assert opened(tmp_path, config, on_change="rerun").generation == 1, "once"


def test_points_that_met_other_data_are_taken_up_again(tmp_path, config):
    def meet_other_data():
        claim = search.ledger().claim(search.ledger().points()[0].id, job=None)
        claim.failed(f"{DATA_CHANGED} data.0.json tells of (data_hash differ)", final=True)

    search, said = opened(tmp_path, config), []
    planned(search, 1e-4)
    meet_other_data()
    assert states(opened(tmp_path, config)) == ["failed"]
    assert states(opened(tmp_path, config, said, on_change="keep")) == ["planned"]
    assert said == ["1 points that had met other data are tried again; they are marked"]
    meet_other_data()
    rerun = opened(tmp_path, config, said, on_change="rerun")
    assert (rerun.generation, states(rerun)) == (1, [])
    assert said[1:] == ["the data have changed: all points are run again"]


def test_a_changed_choice_is_refused_kept_or_run_again_where_points_were_made_with_it(tmp_path, config):
    one = f"optimizer.lr={1e-4}"
    search, said = opened(tmp_path, config, choices={one: "a", "other": "a"}), []
    opened(tmp_path, config, choices={one: "b"})
    done(search, 1e-4)
    opened(tmp_path, config, choices={one: "a", "other": "x", "new": "x"})
    with pytest.raises(ConfigError, match=r"the configuration of optimizer.lr=0.0001 has changed since .*=keep"):
        opened(tmp_path, config, choices={one: "c"})
    opened(tmp_path, config, said, choices={one: "c"}, on_change="keep")
    assert said == [f"the configuration of {one} has changed: results of the old one count"]
    assert states(opened(tmp_path, config, choices={one: "c"})) == ["done"]
    rerun = opened(tmp_path, config, said, choices={one: "d"}, on_change="rerun")
    assert (rerun.generation, states(rerun)) == (1, [])
    assert said[1:] == [f"the configuration of {one} has changed: all points are run again"]
