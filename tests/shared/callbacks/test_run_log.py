"""What the `start` event tells about a network; the log itself is tested with whole runs."""

import lightning as L
import torch

from shared.callbacks.run_log import model_facts
from tests.fabricate.plain_fit import Plain


class Describing(L.LightningModule):
    def __init__(self, formula):
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)
        self.latex = formula

    def describe(self):
        return {"parameters": 9, "first weights": "none"}

    def formula(self):
        return self.latex


def test_a_module_describes_itself():
    facts = model_facts(Describing(r"\\mathcal{L}"))
    assert facts["model"] == {"class": "Describing", "parameters": "9", "first weights": "none"}
    assert facts["formula"] == r"\\mathcal{L}"


def test_a_module_without_a_formula_has_none():
    assert "formula" not in model_facts(Describing(None))


def test_somebody_elses_module_is_counted_with_a_tied_weight_once():
    assert model_facts(Plain()) == {"model": {"class": "Plain", "parameters": "144"}}
