"""The rules on fits that really ran: a small network whose fault was set on purpose. docs/advise.md has all 48."""

import pytest

from shared.advise.curves import parse_log
from shared.advise.rules import diagnose
from tests.fabricate.loss_curves import log_text
from tests.fabricate.real_fits import CAUSES, real_fit


@pytest.mark.parametrize("kind", CAUSES)
def test_the_cause_of_a_real_fit_is_named(kind):
    found = [diagnose(parse_log(log_text(*real_fit(kind, seed)))) for seed in range(3)]
    names = [findings[0].rule if findings else "healthy" for findings in found]
    assert names.count(kind) >= 2, names  # one healthy fit of 8 is called a plateau
