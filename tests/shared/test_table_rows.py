import pytest

from shared.table_rows import members_of_ensemble, model_rows, variant_row


def test_networks_stand_in_the_order_of_the_table_and_baselines_are_none_of_them():
    names = ["final", "delta_+4", "x", "delta_-2", "crossover", "delta_-10", "delta_ensemble", "sweet_spot", "ema"]
    expected = ["ema", "sweet_spot", "delta_-10", "delta_-2", "delta_+4", "delta_ensemble", "crossover", "final"]
    assert model_rows(names) == expected
    assert members_of_ensemble(names) == ["sweet_spot", "delta_-10", "delta_-2", "delta_+4"]
    assert model_rows(["delta_0", "delta_2", "delta_+02", "deltas"]) == []


def test_no_shift_is_no_variant():
    assert variant_row(-3) == "delta_-3"
    with pytest.raises(ValueError, match="shift is 0"):
        variant_row(0)
