from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shared.errors import TrainingError
from shared.sweep.initial_weights import InitialWeights, begin_alike, check_weights
from shared.sweep.objective import PointWork
from shared.weights import weights_sha256

RATE = {"optimizer.lr": 1e-4}


def test_only_what_is_set_behind_the_network_leaves_the_weights_alone():
    assert begin_alike(["optimizer.lr", "scheduler", "trainer.max_epochs"])
    assert not begin_alike(["optimizer.lr", "model.width"])
    assert not begin_alike(["+experiment"])
    assert not begin_alike(["seed"])


def test_points_of_a_rate_sweep_must_begin_with_equal_weights(tmp_path):
    check_weights(tmp_path, 0, RATE, "a" * 64)
    check_weights(tmp_path, 0, {"optimizer.lr": 2e-4}, "a" * 64)
    with pytest.raises(TrainingError, match=r"weights of this point \(b{12}\) are not those .* first point \(a{12}\)"):
        check_weights(tmp_path, 0, RATE, "b" * 64)
    check_weights(tmp_path, 1, RATE, "b" * 64)  # another generation has other code
    check_weights(tmp_path, 0, {"model": "other"}, "b" * 64)


def test_a_damaged_file_is_set_aside_and_written_anew(tmp_path):
    (tmp_path / "weights.0.json").write_text('{"initial_w')
    check_weights(tmp_path, 0, RATE, "a" * 64)
    with pytest.raises(TrainingError, match="are not those"):
        check_weights(tmp_path, 0, RATE, "b" * 64)
    assert len(list(tmp_path.glob("weights.0.json.damaged-*"))) == 1


def test_the_hash_is_of_the_module_as_it_was_made(tmp_path):
    told = []
    module = nn.Linear(3, 2)
    InitialWeights(told.append).setup(SimpleNamespace(is_global_zero=True), module, "fit")
    InitialWeights(told.append).setup(SimpleNamespace(is_global_zero=True), module, "test")
    InitialWeights(told.append).setup(SimpleNamespace(is_global_zero=False), module, "fit")
    with torch.device("meta"):
        sharded = nn.Linear(3, 2)
    InitialWeights(told.append).setup(SimpleNamespace(is_global_zero=True), sharded, "fit")
    assert told == [weights_sha256(module.state_dict()), None]


def test_a_direction_is_min_or_max():
    with pytest.raises(ValueError, match="direction is 'down'; allowed are min, max"):
        PointWork("0", 0, None, (), None, None, None, {}, {}, "down")
