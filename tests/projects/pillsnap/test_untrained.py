import numpy as np
import pytest
from rich.console import Console

from projects.pillsnap.served_model import ServedModel
from projects.pillsnap.untrained import write_untrained


@pytest.mark.slow  # an export of a whole network, for once
def test_an_untrained_model_is_certified_and_says_what_it_is(tmp_path):
    path = write_untrained(tmp_path / "untrained", Console(quiet=True))
    served = ServedModel.load(path)
    assert served.version.startswith("untrained")
    assert len(served.classes) == 100
    answer = served.run(np.full((2, 128, 128, 3), 200, np.uint8))
    assert answer.probabilities.shape == (2, 100)
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1.0, atol=1e-5)
    agreement = served.certificate["network_agreement"]
    assert (agreement["images"], agreement["tolerances"]["least_images"]) == (4, 1)
    assert agreement["top1_agreement_lower_95"] == pytest.approx(0.025 ** (1 / 4))
