"""The checks that all analyzers run can fail: each finds a fault that is planted for it."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from projects.redheart.models.context import Analyzer
from projects.redheart.models.layers import masked_mean
from tests.fabricate import analyzer_contract as contract


class Sound(Analyzer):
    """Mean of the parts and a linear layer."""

    tasks: ClassVar[tuple[str, ...]] = ("regret",)

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(2 * width, 1)

    def forward(self, context):
        read = torch.cat([self.read(context), context.pooled], dim=-1)
        return {"regret": self.layer(read.to(context.pooled.dtype)).to(context.pooled.dtype)}

    def read(self, context):
        return masked_mean(context.sequence, context.mask)


class ReadsPadding(Sound):
    def read(self, context):
        return context.sequence.mean(1)


class ReadsOtherRows(Sound):
    def read(self, context):
        return super().read(context) - super().read(context).mean(0)


class CountsGaps(Sound):
    def read(self, context):
        positions = torch.arange(context.mask.shape[1])[None, :, None] / 10
        return masked_mean(context.sequence * positions, context.mask)


class DividesByNothing(Sound):
    def read(self, context):
        return (context.sequence * context.mask[..., None]).sum(1) / context.mask.sum(1, keepdim=True)


class DeadParameter(Sound):
    def __init__(self, width):
        super().__init__(width)
        self.unused = nn.Linear(width, width)


class AnswersInSinglePrecision(Sound):
    def forward(self, context):
        return {"regret": super().forward(context)["regret"].float()}


class WrongSize(Sound):
    def forward(self, context):
        return {"regret": super().forward(context)["regret"][:, 0]}


class Deaf(Sound):
    def forward(self, context):
        return {"regret": 1e-3 * super().forward(context)["regret"]}


FAULTS = [
    (contract.check_shapes, WrongSize),
    (contract.check_padding, ReadsPadding),
    (contract.check_padding, ReadsOtherRows),
    (contract.check_gaps, CountsGaps),
    (contract.check_empty_row, DividesByNothing),
    (contract.check_gradients, DeadParameter),
    (contract.check_bfloat16, AnswersInSinglePrecision),
    (contract.check_learning, Deaf),
]


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_a_sound_analyzer_passes(check):
    check(Sound)


@pytest.mark.parametrize(("check", "kind"), FAULTS, ids=lambda value: value.__name__)
def test_a_planted_fault_is_found(check, kind):
    with pytest.raises(AssertionError):
        check(kind)


def test_each_check_has_a_fault():
    assert {check for check, _ in FAULTS} == set(contract.CONTRACT)
