import json

import pytest
from omegaconf import OmegaConf

from shared.errors import ConfigError, DataError
from shared.sweep import contexts, exclusive_files
from shared.sweep.search import Search, cut_to_subset
from tests.fabricate.toy_sweep import planned, toy_search


def test_the_same_search_is_found_again_whatever_may_change(tmp_path):
    first = toy_search(tmp_path)
    again = toy_search(tmp_path, retries=7, on_change="keep", keep_top=1)
    assert again.config_hash == first.config_hash
    assert again.settings["retries"] == 7
    assert json.loads((first.folder / "sweep.json").read_text())["settings"]["retries"] == 1, "it is written once"
    assert Search.load(first.folder).settings["retries"] == 7, "limits that were asked for last count for all"
    assert again.ledger().limits.retries == 7


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"config": {"optimizer": {"lr": 1e-3}, "seed": 1}}, "differs in seed: give another hydra.sweeper.name"),
        ({"config": {"optimizer": {"lr": 1e-3}, "seed": 0, "data": {"a": 1}}}, "differs in data"),
        ({"epochs": 4}, "differs in hydra.sweeper.epochs"),
        ({"num_samples": 10}, "differs in hydra.sweeper.num_samples"),
        ({"sweeper": "optuna"}, "differs in sweeper"),
        ({"lease_s": 60.0}, r"lease_s is 60, and that of the sweep .* is 3: all who share .* must agree"),
        ({"lease_s": 60.0, "epochs": 4}, "differs in hydra.sweeper.epochs, hydra.sweeper.lease_s"),
    ],
)
def test_another_search_is_refused_in_the_same_folder(tmp_path, changes, key):
    toy_search(tmp_path)
    with pytest.raises(ConfigError, match=key):
        toy_search(tmp_path, **changes)


def test_paths_and_what_points_set_themselves_make_no_other_search(tmp_path):
    searched = {"optimizer": {"lr": 1e-3}, "seed": 0}
    first = toy_search(tmp_path, config=searched | {"paths": {"cache": "a"}, "experiment": "x"})
    assert toy_search(tmp_path, config=searched | {"paths": {"cache": "b"}}).config_hash == first.config_hash


def test_data_are_cut_where_there_is_a_key_for_it_and_otherwise_it_is_said():
    config = OmegaConf.create({"data": {"n": None, "m": 5}})
    done = [cut_to_subset(config, 10, key) for key in ("data.n", "data.m", "data.o", "data.n.o")]
    assert done == [True, True, False, False]
    assert config == {"data": {"n": 10, "m": 5}}


def test_a_project_whose_data_cannot_be_cut_is_told_so(tmp_path):
    said: list[str] = []
    toy_search(tmp_path, said, num_samples=10, config={"data": {"size": 3}})
    assert said == [
        "redheart has no data.n that would cut its data to 10 samples, so every point trains on all of train"
    ]


def test_changed_code_is_refused_kept_or_run_again(tmp_path, monkeypatch):
    search = toy_search(tmp_path)
    id = planned(search, 1e-4)[0]
    with search.ledger().claim(id, job=None) as claim:
        claim.done({"score": 1.0})
    monkeypatch.setattr(contexts, "code_hash", lambda primary, objective: "other")
    with pytest.raises(ConfigError, match=r"the code has changed .* 1 of its points are done; give .*on_change=keep"):
        toy_search(tmp_path)
    with pytest.raises(ConfigError, match="the code here is another than that of the sweep"):
        search.require_known_code()
    said = []
    kept = toy_search(tmp_path, said, on_change="keep")
    assert [view.state for view in kept.ledger().points()] == ["done"]
    assert said == ["the code has changed: results of the old code count, marked"]
    kept.require_known_code()
    toy_search(tmp_path)  # known from now on

    monkeypatch.setattr(contexts, "code_hash", lambda primary, objective: "third")
    rerun = toy_search(tmp_path, said, on_change="rerun")
    assert rerun.generation == 1
    assert rerun.ledger().points() == []
    assert [view.state for view in rerun.ledger().points(all_generations=True)] == ["done"]
    assert [context.mode for context in contexts.contexts(search.folder)] == ["first", "keep", "rerun"]
    monkeypatch.setattr(contexts, "code_hash", lambda primary, objective: "other")
    assert not rerun.has_known_code(), "code of an older generation is not that of this one"


def test_changed_code_needs_no_decision_while_nothing_is_done(tmp_path, monkeypatch):
    toy_search(tmp_path)
    monkeypatch.setattr(contexts, "code_hash", lambda primary, objective: "other")
    assert toy_search(tmp_path).generation == 0


def test_the_code_hash_is_of_what_a_fit_goes_through(tmp_path, monkeypatch):
    for name in ("shared/engine.py", "shared/live/hub.py", "projects/a/data.py", "projects/b/data.py", "bench/o.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(contexts, "ROOT", tmp_path)

    def hash_after(name: str) -> str:
        (tmp_path / name).write_text("2")
        return contexts.code_hash.__wrapped__("a", "bench.o.run")

    first = contexts.code_hash.__wrapped__("a", "bench.o.run")
    assert hash_after("shared/live/hub.py") == first == hash_after("projects/b/data.py")
    seen = {first} | {hash_after(name) for name in ("shared/engine.py", "projects/a/data.py", "bench/o.py")}
    assert len(seen) == 4


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(exclusive_files, "create", full)
    with pytest.raises(DataError, match=r"sweeps/toy cannot be written \(Read-only file system\); make it writable"):
        toy_search(tmp_path)


def test_a_damaged_sweep_file_is_restored_and_still_compared(tmp_path):
    search = toy_search(tmp_path)
    path = search.folder / "sweep.json"
    path.write_text('{"schema": 1}\n')
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged or of another version"):
        Search.load(search.folder)
    said = []
    with pytest.raises(ConfigError, match="differs in seed"):
        toy_search(tmp_path, said, config={"optimizer": {"lr": 1e-3}, "seed": 1})
    assert "sweep.json was damaged and is restored from sweep.copy.json" in said[0]
    assert Search.load(search.folder) == search


def test_points_without_a_sweep_file_belong_to_nobody(tmp_path):
    search = toy_search(tmp_path)
    planned(search, 1e-4)
    (search.folder / "sweep.copy.json").write_text("{")
    (search.folder / "sweep.json").write_text("{")
    with pytest.raises(ConfigError, match=r"was damaged \(kept as sweep\.json\.damaged-\w{6}\), and without it nobody"):
        toy_search(tmp_path)


def test_interrupted_points_go_on_with_changed_code_and_that_is_said(tmp_path, monkeypatch):
    search, said = toy_search(tmp_path), []
    claim = search.ledger().claim(planned(search, 1e-4)[0], job=None)
    claim.opened(str(tmp_path))
    claim.interrupted("stopped")
    monkeypatch.setattr(contexts, "code_hash", lambda primary, objective: "other")
    assert toy_search(tmp_path, said).generation == 0
    assert said == ["the code has changed: 1 points that were begun with the old code go on with the new one"]


def test_a_context_that_lacks_its_parts_is_left_out(tmp_path):
    search = toy_search(tmp_path)
    (search.folder / "contexts" / "0001.json").write_text('{"mode": "rerun"}\n')
    assert [context.mode for context in contexts.contexts(search.folder)] == ["first"]


def test_a_damaged_sweep_file_is_set_aside_and_written_anew(tmp_path):
    search = toy_search(tmp_path)
    path = search.folder / "sweep.json"
    (search.folder / "sweep.copy.json").unlink()
    path.write_text(path.read_text()[:40])
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged or of another version; give the sweep's command"):
        Search.load(search.folder)
    said = []
    assert toy_search(tmp_path, said).config_hash == search.config_hash
    assert "sweep.json was damaged and is written anew; the old one is kept as sweep.json.damaged-" in said[0]


def test_no_sweep_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"is no sweep: it has no sweep\.json"):
        Search.load(tmp_path)


def test_a_point_only_fits_and_never_opens_other_folds(tmp_path):
    search = toy_search(tmp_path, overrides=("optimizer.lr_from=latest", "callbacks=redheart_full"), epochs=4)
    planned(search, 3e-4)
    config = search.point_config(search.ledger().points()[0])
    assert config.stages == ["fit"]
    assert config.experiment == "sweep-toy"
    assert config.resume is None
    assert config.optimizer.lr == 3e-4
    assert config.optimizer.lr_from is None
    assert config.trainer.max_epochs == 4
    assert {"progress"} <= set(config.callbacks) <= {"progress", "gradient_norms"}


def test_the_length_stays_as_configured_where_no_epochs_are_given(tmp_path):
    search = toy_search(tmp_path, overrides=("trainer.max_epochs=17",), epochs=None)
    planned(search, 3e-4)
    assert search.point_config(search.ledger().points()[0]).trainer.max_epochs == 17


def test_sweep_json_says_all_that_another_machine_needs(tmp_path):
    content = json.loads((toy_search(tmp_path).folder / "sweep.json").read_text())
    assert {"schema", "sweeper", "primary", "overrides", "settings", "objective", "config_hash", "started"} <= set(
        content
    )
