import pytest
import torch

from projects.redheart.models.signal.trajectory import as_signal, close_gaps, full_precision, last_sample

VALUES = torch.arange(8.0).reshape(2, 4, 1)
MASK = torch.tensor([[True, False, True, False], [False, True, True, True]])


def test_gaps_are_closed_in_order():
    values, present, length = close_gaps(VALUES, MASK)
    assert values[..., 0].tolist() == [[0, 2, 0, 0], [5, 6, 7, 0]]
    assert present.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert length.tolist() == [2, 3]


def test_what_is_absent_may_be_anything():
    values = VALUES.masked_fill(~MASK[..., None], float("nan"))
    assert torch.equal(close_gaps(values, MASK).values, close_gaps(VALUES, MASK).values)


def test_a_signal_is_in_full_precision():
    assert close_gaps(VALUES.bfloat16(), MASK).values.dtype == torch.bfloat16
    assert as_signal(VALUES.bfloat16(), MASK).values.dtype == torch.float32
    assert as_signal(VALUES.double(), MASK).values.dtype == torch.float64


@pytest.mark.parametrize("values", [VALUES[:, :3], VALUES[..., 0]])
def test_a_mask_that_does_not_fit_is_refused(values):
    with pytest.raises(ValueError, match=r"\(B, S, C\) with a mask \(B, S\); got .*\(2, 4\)"):
        close_gaps(values, MASK)


def test_the_last_sample():
    assert last_sample(VALUES, torch.tensor([2, 4]))[:, 0].tolist() == [1, 7]
    assert last_sample(VALUES, torch.tensor([0, 1]))[:, 0].tolist() == [0, 4]
    assert last_sample(VALUES[:, :0], torch.tensor([0, 0])).tolist() == [[0], [0]]
    assert last_sample(VALUES[..., None].expand(2, 4, 1, 3), torch.tensor([1, 2])).shape == (2, 1, 3)


def test_autocast_is_off_inside():
    matrix = torch.eye(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (matrix @ matrix).dtype == torch.bfloat16
        with full_precision(matrix.device):
            assert (matrix @ matrix).dtype == torch.float32
    with full_precision(torch.device("meta")):
        assert (matrix @ matrix).dtype == torch.float32
