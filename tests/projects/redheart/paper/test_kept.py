import json
import shutil

import pytest
import yaml

from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.paper.kept import kept_quality, kept_sweep
from projects.redheart.paper.sources import read_sources
from projects.redheart.paper.tables import tables_of
from projects.redheart.paper.write import write_paper
from shared.errors import DataError
from tests.projects.redheart.paper.story_run import story_run


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    return config, json.loads((run / "report.json").read_text())


def test_the_paper_is_the_same_after_data_and_sweep_have_changed_or_are_gone(tmp_path):
    run = story_run(tmp_path)
    write_paper(tmp_path / "first", read_sources([run]))
    for path, key in (
        (tmp_path / "data" / "quality.json", "n_read"),
        (tmp_path / "sweep" / "lr_sweep_results.json", "x"),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 1, "points": [], "warnings": ["new"]}))
    write_paper(tmp_path / "second", read_sources([run]))
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "sweep")
    write_paper(tmp_path / "third", read_sources([run]))
    assert contents(tmp_path / "second") == contents(tmp_path / "first") == contents(tmp_path / "third")
    origin = json.loads((run / "paper_sources" / "origin.json").read_text())["files"]
    assert origin["quality.json"]["from"] == str(tmp_path / "data" / "quality.json")


def test_another_sweep_replaces_the_copy_only_where_it_is_named(tmp_path):
    run = story_run(tmp_path)
    config, _ = read(run)
    first = kept_sweep(run, config, None)
    other = tmp_path / "other"
    other.mkdir()
    (other / "lr_sweep_results.json").write_text(json.dumps({"schema": 1, "points": []}))
    assert kept_sweep(run, config, other) == {"schema": 1, "points": []} != first
    assert kept_sweep(run, config, None) == {"schema": 1, "points": []}


def test_a_changed_copy_is_refused_and_one_without_entry_is_made_again(tmp_path):
    run = story_run(tmp_path)
    config, report = read(run)
    copy = run / "paper_sources" / "quality.json"
    copy.parent.mkdir()
    copy.write_text("{")  # a call that was killed between copy and entry
    found = kept_quality(run, config, report)
    assert found["n_read"] == 1046
    copy.write_text("{}")
    with pytest.raises(DataError, match=r"quality\.json is not what was copied from .*; remove .*paper_sources and it"):
        kept_quality(run, config, report)


def test_a_folder_prepared_anew_since_the_run_is_not_taken_for_its_own(tmp_path):
    run = story_run(tmp_path)
    config, report = read(run)
    path = tmp_path / "data" / "quality.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["9 of 10 stories left"]}))
    with pytest.raises(DataError, match=r"was made after .*: it says '9 of 10 stories left', which the run's report"):
        kept_quality(run, config, report)
    assert kept_quality(run, config, report | {"warnings": ["9 of 10 stories left"]})["n_read"] == 1046


def test_the_stand_in_of_the_cache_has_a_quality_table(tmp_path):
    run = story_run(tmp_path)
    config, report = read(run)
    config["data"] |= {"root": None, "standin": {"num_stories": 80, "seed": 0}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = {key: value for key, value in config["data"].items() if key != "_target_"}
    datamodule = StoriesDataModule(**arguments, seed=7, cache_folder=config["paths"]["cache"])
    quality = json.loads((datamodule.root / "quality.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"warnings": quality["warnings"]}))
    (source,) = read_sources([run])
    table = next(table for table in tables_of(source) if table.name == "quality")
    assert table.rows[0] == ["stories read", 80]
    assert source.quality == quality


def test_goemotions_has_no_quality_step(tmp_path):
    run = story_run(tmp_path, kind="goemotions")
    assert kept_quality(run, *read(run)) is None
    assert not (run / "paper_sources").exists()
