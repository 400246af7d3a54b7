"""Our defaults for the launchers of others."""

import os
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher
from omegaconf import OmegaConf

from shared.errors import ConfigError
from shared.sweep.launchers import adopt_defaults, job_faults, most_at_once

GIVEN = "hydra/launcher/joblib.yaml"


@pytest.fixture(autouse=True)
def restored_store():
    adopt_defaults(Path("nowhere"))  # the plugins have stored theirs
    former = ConfigStore.instance().load(GIVEN)
    yield
    ConfigStore.instance().store("joblib", former.node, group="hydra/launcher", package=former.package)


def test_ours_lie_over_the_defaults_of_the_plugin(tmp_path: Path):
    (tmp_path / "joblib.yaml").write_text("n_jobs: 3\n")
    (tmp_path / "not_installed.yaml").write_text("anything: 1\n")
    before = OmegaConf.to_container(ConfigStore.instance().load(GIVEN).node)
    assert adopt_defaults(tmp_path) == ["joblib"]
    assert OmegaConf.to_container(ConfigStore.instance().load(GIVEN).node) == {**before, "n_jobs": 3}


@pytest.mark.parametrize("line", ["n_job: 3", "n_jobs: many"])
def test_what_the_launcher_does_not_know_is_refused(line: str, tmp_path: Path):
    (tmp_path / "joblib.yaml").write_text(line)
    with pytest.raises(ConfigError, match=r"joblib\.yaml does not fit the launcher joblib"):
        adopt_defaults(tmp_path)


def test_every_file_of_ours_fits_the_launcher_of_its_name(repo_root: Path):
    folder = repo_root / "conf" / "launcher"
    assert adopt_defaults(folder) == sorted({path.stem for path in folder.glob("*.yaml")} - {"ray"})


def test_a_slurm_job_that_reaches_its_time_is_queued_again(repo_root: Path):
    adopt_defaults(repo_root / "conf" / "launcher")
    node = ConfigStore.instance().load("hydra/launcher/submitit_slurm.yaml").node
    assert node.max_num_timeout > 0
    assert node.timeout_min * 60 > 2 * node.signal_delay_s


def test_launchers_that_start_everything_at_once_are_held_back():
    assert most_at_once(LocalLauncher.__name__) == len(os.sched_getaffinity(0))
    assert most_at_once(SlurmLauncher.__name__) == 1000
    assert most_at_once(JoblibLauncher.__name__) is None


def test_what_jobs_raised_is_found_by_their_place():
    good = JobReturn(status=JobStatus.COMPLETED, _return_value=1.0)
    bad = JobReturn(status=JobStatus.FAILED, _return_value=ValueError("first\nsecond"))
    mute = JobReturn(status=JobStatus.FAILED, _return_value=KeyboardInterrupt())
    assert job_faults([good, bad, mute]) == {1: "ValueError: first", 2: "KeyboardInterrupt: without a message"}
    assert job_faults(None) == {}
