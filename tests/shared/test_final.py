"""Which weights and which calibrator a run stands for."""

import pytest
import torch
from safetensors.torch import save_file

from shared.calibrators import DomainTemperatureCalibrator, TemperatureCalibrator, VarianceCalibrator, save_calibrator
from shared.errors import CheckpointError
from shared.final import CALIBRATOR_FILE, FinalCalibrator, final_calibrator, final_sha256, final_state
from shared.run_dir import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory.create(tmp_path, "battery", "some")
    run.checkpoints.mkdir()
    torch.save({"state_dict": {"weight": torch.ones(2)}}, run.checkpoints / "best.ckpt")
    return run


def test_without_a_crossover_it_is_the_best_single_checkpoint(run):
    assert torch.equal(final_state(run)["weight"], torch.ones(2))
    assert final_calibrator(run) is None


def test_a_checkpoint_without_weights_is_refused(run):
    torch.save({"epoch": 3}, run.checkpoints / "best.ckpt")
    with pytest.raises(CheckpointError, match="has no state_dict"):
        final_state(run)


def test_a_crossover_that_is_recorded_but_gone_is_an_error_and_no_fall_back(run):
    run.mark_done("crossover", {})
    with pytest.raises(CheckpointError, match="crossover_final"):
        final_state(run)


def test_the_calibrator_brings_the_names_of_its_domains(run):
    save_calibrator(run.path / CALIBRATOR_FILE, TemperatureCalibrator(2.0), {"domain_names": ["cell", "module"]})
    assert final_calibrator(run) is None  # not recorded: the stage was killed before its end
    run.mark_done("calibrate", {})
    found = final_calibrator(run)
    assert found.domain_names == ("cell", "module")
    expected = torch.tensor([[1.0, 0.0]]).softmax(dim=1)
    torch.testing.assert_close(found.probabilities(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), []), expected)


def test_a_variance_calibrator_is_not_one_for_logits(run):
    save_calibrator(run.path / CALIBRATOR_FILE, VarianceCalibrator(2.0), {"domain_names": []})
    run.mark_done("calibrate", {})
    with pytest.raises(CheckpointError, match="for the variance of a regression"):
        final_calibrator(run)


def test_domains_are_matched_by_name_and_unknown_ones_get_the_common_temperature():
    calibrator = FinalCalibrator(DomainTemperatureCalibrator(1.0, [2.0, 4.0]), ("cell", "module"))
    logits = torch.full((4, 2), 0.0)
    logits[:, 0] = 4.0
    # Another data set counts module first, and knows a third kind.
    found = calibrator.probabilities(logits, torch.tensor([0, 1, 2, -1]), ["module", "cell", "pack"])
    expected = torch.tensor([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0], [4.0, 0.0]]).softmax(dim=1)
    torch.testing.assert_close(found, expected)


def test_the_hash_names_weights_and_calibrator_together():
    state = {"weight": torch.ones(2)}
    hashes = {
        final_sha256(state, None),
        final_sha256({"weight": torch.zeros(2)}, None),
        final_sha256(state, FinalCalibrator(TemperatureCalibrator(1.5), ())),
        final_sha256(state, FinalCalibrator(TemperatureCalibrator(1.6), ("cell",))),
    }
    assert len(hashes) == 4
    assert final_sha256(state, FinalCalibrator(TemperatureCalibrator(1.5), ("cell",))) in hashes


def test_a_file_of_other_tensors_is_no_calibrator(run):
    save_file({"x": torch.ones(1)}, run.path / CALIBRATOR_FILE)
    run.mark_done("calibrate", {})
    with pytest.raises(CheckpointError, match="no calibrator"):
        final_calibrator(run)
