"""What the stage does around the fit; the fit itself is run by tests/test_resume.py and tests/shared/distributed."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from shared import checkpoint_io
from shared.resume import checkpoint_to_resume
from shared.stages import train as stage

PLAIN = {
    "trainer": {"accelerator": "cpu", "strategy": "auto", "devices": 1},
    "data": {"batch_size": 8},
    "model": {},
    "optimizer": {"name": "adamw"},
    "runtime": {"rehearse": False},
    "callbacks": {},
}


class Run:
    """A run directory with a checkpoint, and what was recorded."""

    def __init__(self, folder):
        self.checkpoints, self.facts = folder, {}

    def done(self, name):
        return self.facts.get(name)

    def mark_done(self, name, facts):
        self.facts[name] = facts


@pytest.fixture
def session(tmp_path, monkeypatch):
    """One that stands behind step 7; its fit goes on to step 10 and is not run."""
    torch.save({"epoch": 2, "global_step": 7}, tmp_path / "last.ckpt")
    warnings = []
    session = SimpleNamespace(
        run=Run(tmp_path), settings=SimpleNamespace(plain=PLAIN), module=torch.nn.Linear(1, 1), warnings=warnings,
        datamodule=SimpleNamespace(batch_size=8), say=lambda sentence: None, warn=warnings.append, trainer=None,
    )  # fmt: skip

    def fit_module(session, checkpoint, step):
        session.steps_before = step
        session.trainer = SimpleNamespace(global_step=10, accumulate_grad_batches=1, current_epoch=3)
        return []

    monkeypatch.setattr(stage, "fit_module", fit_module)
    monkeypatch.setattr(stage, "other_ranks", lambda *_: nullcontext())
    return session


def test_a_checkpoint_is_checked_when_it_is_chosen_and_when_it_is_read_and_not_again(session, monkeypatch):
    read, find_fault = [], checkpoint_io.find_fault

    def counted(path):
        read.append(path.name)
        return find_fault(path)

    monkeypatch.setattr(checkpoint_io, "find_fault", counted)
    assert checkpoint_to_resume(session.run, None)[0] is not None
    choosing = len(read)
    read.clear()
    stage.train(session, None)
    assert read == ["last.ckpt"] * (choosing + 1)
    assert session.steps_before == 7
    assert session.resumed_from == {"checkpoint": "last.ckpt", "epoch": 2, "step": 7}
    assert session.run.facts["fit"]["samples"] == (10 - 7) * 8


def test_a_fit_from_the_beginning_counts_all_its_samples(session):
    (session.run.checkpoints / "last.ckpt").unlink()
    stage.train(session, None)
    assert session.steps_before is None
    assert session.run.facts["fit"]["samples"] == 10 * 8


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_strategy_that_one_process_does_not_use_is_said_once(strategy, session):
    session.settings.plain = PLAIN | {"trainer": PLAIN["trainer"] | {"strategy": strategy}}
    stage.train(session, None)
    assert session.warnings == [f"trainer.strategy is {strategy!r} and is not used: trainer.devices=1 is one process"]


def test_without_a_strategy_nothing_is_said(session):
    stage.train(session, None)
    assert session.warnings == []
