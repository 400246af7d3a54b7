"""The analyzer feeds the shares of information into its answer."""

import pytest
import torch

from projects.redheart.models.information import SHARES
from projects.redheart.models.neural.surd import NeuralSurdAnalyzer
from tests.fabricate.story_network import fabricated_context, rows, tiny_sizes

TITLE_OR_ACTION = [place for place, name in enumerate(SHARES) if set(name.partition("_")[2]) & {"1", "2"}]


@pytest.fixture
def analyzer() -> NeuralSurdAnalyzer:
    """The tiny analyzer."""
    torch.manual_seed(0)
    return NeuralSurdAnalyzer(64, **tiny_sizes()["analyzers"]["neural_surd"]).eval()


def test_a_kind_that_is_not_there_tells_nothing(analyzer: NeuralSurdAnalyzer) -> None:
    """Row 2 has sentences only: all it tells is unique to the text."""
    shares = analyzer.shares(fabricated_context())

    assert shares[2, TITLE_OR_ACTION].abs().max() < 1e-5
    assert shares[2, SHARES.index("unique_0")] > 0.01
    assert shares[0, TITLE_OR_ACTION].max() > 0.01


def test_shares_reach_the_answer_directly(analyzer: NeuralSurdAnalyzer) -> None:
    context = fabricated_context()
    before = analyzer(context)["surd"]
    with torch.no_grad():
        analyzer.direct.weight += 1.0

    added = analyzer(context)["surd"] - before

    torch.testing.assert_close(added, analyzer.shares(context).sum(dim=1, keepdim=True).expand(4, 4))


def test_information_is_computed_in_full_precision(analyzer: NeuralSurdAnalyzer) -> None:
    context = fabricated_context()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shares = analyzer.shares(context)

    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares, analyzer.shares(context), atol=0.05, rtol=0.1)


def test_the_whole_analyzer_runs_in_half_precision(analyzer: NeuralSurdAnalyzer) -> None:
    context = fabricated_context()
    half = context._replace(sequence=context.sequence.bfloat16(), pooled=context.pooled.bfloat16())

    answer = analyzer.bfloat16()(half)["surd"]

    assert answer.dtype == torch.bfloat16
    assert answer.isfinite().all()


def test_a_story_is_its_own_model(analyzer: NeuralSurdAnalyzer) -> None:
    context = fabricated_context()

    torch.testing.assert_close(analyzer.shares(rows(context, [1])), analyzer.shares(context)[1:2], atol=1e-5, rtol=0)
