import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from shared.crossover.batch_norm import has_batch_norm, reestimate
from tests.shared.crossover.networks import Leaves, Normed, make_batches


def test_equals_torch_with_dropout_off():
    module, batches = Normed(), make_batches(batch_size=8)
    module.head.train()
    twin = copy.deepcopy(module)
    found = reestimate(module, iter(batches), 4, "predict_step")
    # torch puts all of the network into training mode; without the head there is no dropout to put on.
    update_bn([batch["image"] for batch in batches[:4]], twin.backbone)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(found[f"backbone.1.{name}"], getattr(twin.backbone[1], name))


def test_dropout_before_the_layer_stays_off():
    class Dropped(Normed):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(6))
            self.head = nn.Linear(6, 3)

    batches = make_batches(batch_size=48)
    found = reestimate(Dropped(), batches, 9, "predict_step")
    image = batches[0]["image"]
    assert torch.allclose(found["backbone.1.running_mean"], image.mean(0), atol=1e-6)
    assert torch.allclose(found["backbone.1.running_var"], image.var(0), atol=1e-5)


@pytest.mark.parametrize("broken", [False, True])
def test_the_module_is_left_as_it_was(broken):
    module, batches = Normed(), make_batches()
    module.backbone.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    if broken:
        batches[1].pop("image")
        with pytest.raises(KeyError):
            reestimate(module, batches, 9, "predict_step")
    else:
        reestimate(module, batches, 9, "predict_step")
    assert module.backbone[1].momentum == 0.3
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_batch_of_one_sample_is_left_out():
    batches = make_batches(num_groups=1, per_group=5, batch_size=4)
    found = reestimate(Normed(), batches, 9, "predict_step")
    assert int(found["backbone.1.num_batches_tracked"]) == 1
    with pytest.raises(ValueError, match="no batch of at least 2 samples"):
        reestimate(Normed(), batches[1:], 9, "predict_step")
    with pytest.raises(ValueError, match="num_batches is 0"):
        reestimate(Normed(), batches, 0, "predict_step")


def test_batches_that_are_tuples_reach_the_step_whole():
    class Pairs(Normed):
        def predict_step(self, batch, batch_idx):
            image, target = batch
            return {"logits": self.head(self.backbone(image)), "target": target}

    pairs = [(batch["image"], batch["target"]) for batch in make_batches()]
    assert int(reestimate(Pairs(), pairs, 2, "predict_step")["backbone.1.num_batches_tracked"]) == 2


def test_what_counts_as_batch_norm():
    assert has_batch_norm(Normed())
    assert not has_batch_norm(Leaves())
    assert not has_batch_norm(nn.BatchNorm1d(3, track_running_stats=False))
