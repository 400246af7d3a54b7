"""Weights in parts on two real processes: the numbers of one process, whole checkpoints, resumed fits."""

import os
import signal

import pytest
import torch

from shared.checkpoint_io import load_checkpoint
from shared.distributed.sharding import is_cut, require_shardable, whole_weights
from shared.engine import fit
from shared.errors import ConfigError, RunInterrupted
from tests.fabricate.several_ranks import curve_fit, rows_of, story_fit
from tests.shared.distributed.test_launch import WAIT_S, act_at, assert_same_fit, last_weights


def test_a_module_that_does_not_say_how_it_is_cut_is_refused():
    module = torch.nn.Linear(2, 3)
    with pytest.raises(ConfigError, match=r"Linear does not support: it has no sharded_units\(\); take trainer=ddp"):
        require_shardable(module)
    assert not is_cut(module)
    assert whole_weights(module) == list(module.parameters())


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_another_projects_module_is_refused_before_any_process_is_started(tmp_path):
    off = [f"callbacks.{name}.enabled=false" for name in ("ema", "sweet_spot", "crossover")]
    with pytest.raises(ConfigError, match="SpectraRegressor does not support"):
        fit(curve_fit(tmp_path, tmp_path, "trainer=fsdp", *off), quiet=True)
    assert list(tmp_path.glob("spectra/*/*/ranks")) == []


@pytest.mark.slow
@pytest.mark.timeout(4 * WAIT_S)
def test_a_fit_in_parts_is_that_of_one_process_and_goes_on_from_a_whole_checkpoint(tmp_path, monkeypatch):
    one = fit(story_fit(tmp_path / "one", tmp_path), quiet=True)
    cut = fit(story_fit(tmp_path / "cut", tmp_path, "trainer=fsdp"), quiet=True)
    assert_same_fit(one, cut, atol=1e-4)
    assert {name: w.shape for name, w in last_weights(cut).items()} == {
        n: w.shape for n, w in last_weights(one).items()
    }
    assert not is_cut(cut.module)  # the result is a whole network
    assert all(torch.equal(w, last_weights(cut)[name]) for name, w in cut.module.state_dict().items())
    with monkeypatch.context() as patch:
        act_at(patch, (0, 2), lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(RunInterrupted, match="stopped by SIGTERM"):
            fit(story_fit(tmp_path / "again", tmp_path, "trainer=fsdp"), quiet=True)
    (last,) = (tmp_path / "again").glob("redheart/bare/*/checkpoints/last.ckpt")
    assert 3 <= load_checkpoint(last)["global_step"] < 7
    resumed = fit(story_fit(tmp_path / "again", tmp_path, "trainer=fsdp", "resume=auto"), quiet=True)
    assert rows_of(resumed.run.path)[-1] == pytest.approx(rows_of(cut.run.path)[-1], rel=1e-5)
