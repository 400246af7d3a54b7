"""The path from the command line: what a user types, sees and gets back."""

import json
import signal
import subprocess
import time

import pytest
import yaml
from hydra.core.plugins import Plugins

from shared.entry import CONFIG_FOLDER, train
from shared.errors import ConfigError
from shared.sweep import plugins
from shared.sweep.grid import parse_grid
from shared.sweep.lr_stages import HierarchicalRates
from shared.sweep.refusals import fixed_config, refuse_objective, refuse_points
from shared.sweep.settings import GridSettings, OptunaSettings, RateSettings, read_settings
from tests.fabricate.toy_sweep import ROOT, SETTINGS, command, environment, epochs_run, sweep

TYPES = {"grid": GridSettings, "hierarchical_lr": RateSettings, "optuna": OptunaSettings}


def test_a_grid_runs_by_the_command_line_goes_on_with_more_values_and_then_does_nothing(tmp_path):
    first = sweep(tmp_path, "optimizer.lr=1e-5,1e-4", "hydra.sweeper.epochs=2")
    assert first.returncode == 0, first.stderr
    best, last = first.stdout.splitlines()[-2:]
    folder = next((tmp_path / "redheart" / "sweeps").iterdir())
    assert folder.name.startswith("grid-")
    assert best.startswith("best: optimizer.lr=0.0001 score 0.62"), "rates alone: the smallest of losses is the best"
    assert last == f"sweep: {last.removeprefix('sweep: ')}"
    assert (ROOT / last.removeprefix("sweep: ")).resolve() == folder
    assert "rank" in first.stderr
    assert "each point only fits, and its score on val decides; for whole runs" in first.stderr
    made = {path.name for path in folder.iterdir()}
    assert {"optimal_lr.json", "table.csv", "lr_sweep_cumulative.json", "stage_0.png"} <= made

    again = sweep(tmp_path, "hydra.sweeper.epochs=2", "optimizer.lr=1e-4,0.00001,1e-3")
    assert again.returncode == 0, again.stderr
    assert list((tmp_path / "redheart" / "sweeps").iterdir()) == [folder], "the same command finds its folder"
    assert len(epochs_run(tmp_path)) == len(set(epochs_run(tmp_path))) == 3 * 2

    program = (
        "import sys\nfrom shared.entry import train\ntry:\n    train('redheart')\nfinally:\n"
        "    print('heavy:', sorted({'torch', 'lightning', 'matplotlib'} & set(sys.modules)))"
    )
    arguments = command(tmp_path, "hydra.sweeper.epochs=2", "optimizer.lr=1e-4,0.00001,1e-3")
    nothing = subprocess.run(
        [*arguments[:3], "-c", program, *arguments[5:]],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert nothing.returncode == 0, nothing.stderr
    assert "3 of 3 points are settled already" in nothing.stderr
    assert "there was nothing left to run" in nothing.stderr
    assert nothing.stdout.splitlines()[-1] == "heavy: []"
    assert len(epochs_run(tmp_path)) == 6


@pytest.mark.slow
def test_failures_end_with_1_and_name_the_points_but_a_diverged_fit_is_a_result(tmp_path):
    modes = {"optimizer.lr=0.0001": "fail", "optimizer.lr=0.001": "diverge"}
    done = sweep(tmp_path, "optimizer.lr=1e-5,1e-4,1e-3", "hydra.sweeper.retries=0", TOY_MODES=json.dumps(modes))
    assert done.returncode == 1
    assert (
        "error: 1 of 3 points failed for good: 1 (optimizer.lr=0.0001); the first: the toy was told to fail"
        in done.stderr
    )
    assert done.stdout.splitlines()[-1].startswith("sweep: ")


def test_a_signal_ends_with_its_code_after_the_point_has_saved(tmp_path):
    arguments = command(tmp_path, "optimizer.lr=1e-5,1e-4", "hydra.sweeper.epochs=50")
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(tmp_path, TOY_EPOCH_S="0.5"), stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "log").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped by SIGINT; 0 of 2 points are settled; the same command goes on" in said
    assert "Traceback" not in said
    folder = next((tmp_path / "redheart" / "sweeps").iterdir())
    events = [json.loads(path.read_text())["kind"] for path in sorted((folder / "ledger").glob("*/*.json"))]
    assert events == ["running", "opened", "interrupted"], "the second point was not begun"


def test_an_unknown_key_names_the_nearest(tmp_path):
    done = sweep(tmp_path, "hydra.sweeper.retrys=1")
    assert done.returncode == 2
    assert "error: unknown config key hydra.sweeper.retrys; the nearest is hydra.sweeper.retries" in done.stderr


def test_another_command_than_train_is_refused():
    sweeper = plugins.GridSweeper()
    sweeper.task_function = lambda config: None
    sweeper.task_function.is_other_command = True
    with pytest.raises(SystemExit) as stop:
        sweeper.sweep([])
    assert stop.value.code == 2
    assert "give hydra/sweeper=basic" in str(stop.value.__cause__)


def test_what_breaks_after_a_sweep_has_begun_is_no_wrong_usage(tmp_path, monkeypatch, capsys):
    def crash(self, arguments):
        raise OSError(28, "No space left on device")

    arguments = command(tmp_path, "optimizer.lr=1e-5,1e-4")[5:]
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    monkeypatch.setattr(plugins.LedgerSweeper, "_run", crash)
    with pytest.raises(SystemExit) as stop:
        train("redheart")
    assert stop.value.code == 1
    assert "No space left on device" in capsys.readouterr().err


def test_hydra_knows_the_sweepers_by_the_names_in_the_configuration():
    plugins.register()
    for kind in TYPES:
        config = yaml.safe_load((ROOT / "conf" / "hydra" / "sweeper" / f"{kind}.yaml").read_text())
        assert Plugins.instance().class_name_to_class[config.pop("_target_")].kind == kind
        assert read_settings(TYPES[kind], config).on_change == "refuse"
    assert (ROOT / "conf").samefile(CONFIG_FOLDER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "hydra.sweeper.name is 'a/b'; it names a folder"),
        (
            {"objective": "os.system"},
            "hydra.sweeper.objective is 'os.system'; it must be a function below one of shared., ",
        ),
        ({"on_change": "ask"}, "hydra.sweeper.on_change is 'ask'; allowed are refuse, rerun, keep"),
        ({"epochs": 0}, "hydra.sweeper.epochs is 0; allowed are whole numbers from 1 on"),
        ({"retries": -1}, "hydra.sweeper.retries is -1; allowed are whole numbers from 0 on"),
        ({"retries": True}, "hydra.sweeper.retries is True; it must be int"),
        ({"retries": "x"}, "hydra.sweeper.retries is 'x'; it must be int"),
        ({"epochs": 1.5}, "hydra.sweeper.epochs is 1.5; it must be int or null"),
        ({"at_once": 0}, "hydra.sweeper.at_once is 0; allowed are whole numbers from 1 on"),
        ({"lease_s": 0}, "hydra.sweeper.lease_s is 0; it must be above 0"),
        ({"max_disk_gb": float("inf")}, "hydra.sweeper.max_disk_gb is inf; it must be above 0"),
        ({"halving": {"first": 1}}, r"unknown config key hydra.sweeper.halving.first; the nearest is .*first_epoch"),
        ({"halving": {"first_epoch": 1}}, "hydra.sweeper.halving lacks eta; a whole number from 2 on is needed"),
        ({"retrys": 1}, "unknown config key hydra.sweeper.retrys; the nearest is hydra.sweeper.retries"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_settings(GridSettings, SETTINGS | changes)


def test_a_missing_setting_is_named():
    with pytest.raises(ConfigError, match=r"the configuration lacks hydra\.sweeper\.low"):
        read_settings(RateSettings, SETTINGS | {"high": 1.0, "points_per_stage": 5, "stages": 5, "key": "k"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=auto"], "resume cannot be given to a sweep: a sweep goes on by itself"),
        (["stages=[fit]"], "stages cannot be given to a sweep: points of a sweep only fit"),
        (["resume=a,b"], "resume cannot be given to a sweep"),
        (["+trainer.num_nodes=2"], "trainer.num_nodes is 2; a point of a sweep runs on one node, so 1 is needed"),
        (["optimizer.lr=0,1e-3"], "optimizer.lr is 0 in the sweep; a learning rate must be above 0"),
        (["optimizer.lr=-1e-3,1e-3"], "optimizer.lr is -0.001 in the sweep"),
        (["callbacks=redheart,redheart_full"], "callbacks cannot be swept: points keep progress and gradient norms"),
        (["callbacks.progress.every=1,2"], "callbacks.progress.every cannot be swept"),
        (["logger=default,none"], "logger cannot be swept: points log to their run directories alone"),
        (["paths.cache=a,b"], "paths.cache cannot be swept: points of a sweep stand in one place"),
        (["optimizer.lrr=1,2"], "cannot be composed: Could not override 'optimizer.lrr'"),
        (["model=redheart_tiny,nothing"], "cannot be composed: .*Could not find 'model/nothing'"),
        (
            ["optimizer.lr_from=latest", "seed=1,2"],
            "optimizer.lr_from is 'latest', but no sweep below .* has found a rate",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        refused(tmp_path, arguments)


@pytest.mark.parametrize(("key", "by"), [("trainer.max_epochs", "epochs=3"), ("data.num_stories", "num_samples=100")])
def test_what_the_sweeper_sets_for_all_points_cannot_be_swept(tmp_path, key, by):
    settings = GridSettings(**SETTINGS | {"num_samples": 100, "subset_key": "data.num_stories"})
    with pytest.raises(ConfigError, match=f"{key} is swept, and hydra.sweeper.{by} sets it for all points; give one"):
        refuse_points("redheart", (), parse_grid([f"{key}=10,20"])[1], settings)
    free = GridSettings(**SETTINGS | {"epochs": None})
    assert refuse_points("redheart", (), parse_grid([f"{key}=10,20"])[1], free) == {}


def test_each_choice_of_a_group_has_a_hash_of_its_own_whatever_is_swept_beside_it():
    _, planner = parse_grid(["scheduler=one_cycle,cosine_warm_restarts", "seed=1,2"])
    alone = refuse_points("redheart", (), parse_grid(["scheduler=one_cycle,cosine_warm_restarts"])[1])
    assert refuse_points("redheart", (), planner) == alone
    assert list(alone) == ["scheduler=one_cycle", "scheduler=cosine_warm_restarts"]
    assert len(set(alone.values())) == 2
    fixed = ("scheduler.pct_start=0.5",)
    assert refuse_points("redheart", fixed, parse_grid(["scheduler=one_cycle,one_cycle"])[1]) != alone


def refused(tmp_path, arguments):
    fixed, planner = parse_grid([f"paths.outputs={tmp_path}", *arguments])
    checked, fixed = fixed_config("redheart", fixed, planner)
    refuse_points("redheart", fixed, planner)
    return checked, fixed


def test_a_fixed_override_may_be_about_what_only_a_swept_choice_brings(tmp_path):
    checked, _ = refused(tmp_path, ["scheduler=one_cycle,one_cycle", "scheduler.pct_start=0.5"])
    assert checked.plain["scheduler"]["pct_start"] == 0.5


def test_the_rate_of_the_newest_sweep_is_pinned_when_the_sweep_begins(tmp_path):
    folder = tmp_path / "redheart" / "sweeps" / "lr"
    folder.mkdir(parents=True)
    (folder / "optimal_lr.json").write_text('{"lr": 3e-4}')
    checked, fixed = refused(tmp_path, ["optimizer.lr_from=latest", "seed=1,2"])
    assert checked.plain["optimizer"]["lr"] == 3e-4
    assert f"optimizer.lr_from='{folder}'" in fixed
    assert "optimizer.lr_from=latest" not in fixed


def test_a_found_rate_beside_a_swept_one_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"optimizer\.lr_from is given to a sweep over optimizer\.lr: leave it out"):
        refused(tmp_path, ["optimizer.lr_from=latest", "optimizer.lr=1e-3,1e-4"])


def test_an_objective_that_is_not_there_is_refused_without_importing_it():
    refuse_objective("tests.fabricate.toy_objective.run")
    with pytest.raises(ConfigError, match=r"there is no module tests\.nothing"):
        refuse_objective("tests.nothing.run")


def test_the_rate_sweep_wants_nothing_else_swept_and_no_rate():
    settings = RateSettings(**SETTINGS, low=1e-5, high=5e-4, points_per_stage=5, stages=5, key="optimizer.lr")
    sweeper = plugins.HierarchicalRateSweeper()
    sweeper.hydra_context = type("Context", (), {"config_loader": None})
    fixed, planner = sweeper.parse(["trainer=cpu"], settings)
    assert fixed == ("trainer=cpu",)
    assert isinstance(planner, HierarchicalRates)
    assert sweeper.default_name("redheart", fixed, planner) == "lr"
    with pytest.raises(ConfigError, match=r"sweeps optimizer\.lr alone, and seed has several values"):
        sweeper.parse(["seed=1,2"], settings)
    with pytest.raises(ConfigError, match=r"optimizer\.lr is what the sweep looks for; leave it out"):
        sweeper.parse(["optimizer.lr=1e-3"], settings)


def test_the_name_of_a_grid_is_of_keys_and_fixed_overrides_not_of_values():
    sweeper = plugins.GridSweeper()

    def name(*arguments):
        return sweeper.default_name("redheart", *parse_grid(arguments))

    assert name("optimizer.lr=1,2", "seed=3", "trainer=cpu") == name("trainer=cpu", "seed=3", "optimizer.lr=1,2,3")
    assert len({name("optimizer.lr=1,2"), name("seed=1,2"), name("optimizer.lr=1,2", "seed=1"), name()}) == 4
