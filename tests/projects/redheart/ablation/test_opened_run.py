from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from projects.redheart.ablation.opened_run import OpenedRun, answer_fold, answer_test, check_against_run, switched_off
from projects.redheart.tasks import SCORES
from shared.errors import CheckpointError


class Network(nn.Module):
    """Adds up what its modules say; `off` leaves some out."""

    def __init__(self):
        super().__init__()
        self.analyzers = nn.ModuleDict({"loud": nn.Linear(3, 7), "quiet": nn.Linear(3, 7)})
        nn.init.zeros_(self.analyzers["quiet"].weight)
        nn.init.zeros_(self.analyzers["quiet"].bias)
        self.switches = ("backbone", "heads", "loud", "quiet")
        self.asked = []

    def forward(self, embedding, off=()):
        self.asked.append(tuple(off))
        return sum(module(embedding) for name, module in self.analyzers.items() if name not in off)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Network()

    def predict_step(self, batch, number):
        logits = self.network(batch["embedding"])
        size = len(logits)
        heads = {
            task: {
                "prediction": logits[:, :1].sigmoid().expand(-1, len(names)),
                "target": torch.zeros(size, len(names)), "mask": torch.ones(size, len(names), dtype=torch.bool),
            }
            for task, names in SCORES.items()
        }  # fmt: skip
        return {
            "logits": logits, "heads": heads, "target": torch.zeros(size, dtype=torch.int64),
            "sample_index": batch["sample_index"],
        }  # fmt: skip


@pytest.fixture
def opened(tmp_path):
    rows = torch.tensor([4, 2, 7, 5])
    batches = [
        {"embedding": torch.randn(2, 3), "sample_index": part, "domain": torch.zeros(2, dtype=torch.int64)}
        for part in rows.split(2)
    ]
    asked = []
    data = SimpleNamespace(
        index=SimpleNamespace(group=np.arange(10) // 2, ids=[f"stories/{n}" for n in range(10)]),
        loader=lambda fold, purpose: asked.append((fold, purpose)) or batches,
        asked=asked,
    )
    calibrator = SimpleNamespace(module=lambda logits, domain: 2 * logits)
    run = SimpleNamespace(path=tmp_path)
    loaded = SimpleNamespace(module=Module(), calibrator=calibrator, run=run)
    return OpenedRun(loaded, data, "ab")


def test_a_module_is_switched_off_by_the_network_s_own_switch_and_only_meanwhile(opened):
    network = opened.loaded.module.network
    with switched_off(network, ["loud"]):
        network(torch.zeros(1, 3))
    network(torch.zeros(1, 3))
    assert network.asked == [("loud",), ()]
    assert opened.analyzers == ("loud", "quiet")
    assert opened.switches == ("backbone", "heads", "loud", "quiet")


def test_answers_are_calibrated_and_in_the_order_of_the_index(opened):
    full = answer_test(opened)
    assert full.rows.tolist() == [2, 4, 5, 7]
    assert full.group.tolist() == [1, 2, 2, 3]
    assert opened.datamodule.asked == [("test", "test")]
    batch = opened.datamodule.loader("test", "test")[0]
    logits = opened.loaded.module.network(batch["embedding"]).detach().double()
    assert full.probs[[1, 0]] == pytest.approx((2 * logits).softmax(dim=1).numpy())
    assert {task: values.shape for task, values in full.prediction.items()} == {
        "bentham": (4, 10), "regret": (4, 1), "surd": (4, 4)
    }  # fmt: skip
    assert full.same_as(answer_test(opened, off=["quiet"]), "emotion")
    assert not full.same_as(answer_test(opened, off=["loud"]), "emotion")
    answer_fold(opened, "calibrate", "calibrate")
    assert opened.datamodule.asked[-1] == ("calibrate", "calibrate")


def test_a_network_that_no_longer_says_what_its_test_said_is_refused(opened, tmp_path):
    full = answer_test(opened)

    def write(probs):
        lines = ["sample_id,label,prob_a,prob_b,prob_c,prob_d,prob_e,prob_f,prob_g"]
        for row, values in zip(full.rows.tolist(), probs, strict=True):
            lines.append(f"stories/{row},a," + ",".join(map(repr, values.tolist())))
        (tmp_path / "predictions.csv").write_text("\n".join(lines) + "\n")

    write(full.probs)
    check_against_run(opened, full)
    write(full.probs[::-1])
    with pytest.raises(CheckpointError, match=r"the network does not say about 'stories/\d' what predictions\.csv of"):
        check_against_run(opened, full)
