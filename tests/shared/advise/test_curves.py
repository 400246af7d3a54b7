"""Logs of any origin are read, and what is damaged in them is passed over and said."""

import math

import numpy as np
import pytest

from shared.advise.curves import parse_log, parse_metrics, read_text
from shared.errors import DataError

GOOD = "[EPOCH] {}/9 train_loss={} val_loss={} best_val=0.1 lr=1.000e-03\n"


def log(*rows):
    return "".join(GOOD.format(n, a, b) for n, (a, b) in enumerate(rows, 1))


def test_a_log_of_the_specification_is_read():
    curves = parse_log(log((0.5, 0.6), (0.4, 0.5)))
    assert curves.epochs.tolist() == [1, 2]
    assert curves.train.tolist() == [0.5, 0.4]
    assert curves.val.tolist() == [0.6, 0.5]
    assert curves.lr.tolist() == [1e-3, 1e-3]
    assert curves.max_epochs == 9
    assert curves.notes == ()


def test_foreign_lines_and_windows_line_endings_change_nothing():
    plain = parse_log(log((0.5, 0.6), (0.4, 0.5)))
    text = "epoch took 3 s\r\n" + log((0.5, 0.6), (0.4, 0.5)).replace("\n", "\r\nWARNING: [EPOC]\r\n")
    foreign = parse_log(text)
    np.testing.assert_array_equal(foreign.train, plain.train)
    assert foreign.notes == ()


def test_nan_and_infinity_are_values():
    curves = parse_log(log((0.5, 0.6), ("nan", "inf")))
    assert math.isnan(curves.train[1])
    assert math.isinf(curves.val[1])


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_last_line_cut_anywhere_yields_no_wrong_number(cut):
    whole = log((0.5, 0.6), (0.4567, 0.5678))
    curves = parse_log(whole[:-cut])
    assert curves.train.tolist() in ([0.5], [0.5, 0.4567])
    if len(curves) == 2:  # only the line ending was lost
        assert (curves.val[1], curves.lr[1], cut) == (0.5678, 1e-3, 1)
    elif "[EPOCH]" in whole[:-cut].splitlines()[-1]:
        assert curves.notes == ("1 damaged [EPOCH] line passed over",)


def test_values_that_are_no_numbers_are_counted_as_damage():
    curves = parse_log(log((0.5, 0.6), ("0.4x", 0.5), (0.3, 0.4)) + "[EPOCH] three of nine\n")
    assert curves.epochs.tolist() == [1, 3]
    assert curves.notes == ("2 damaged [EPOCH] lines passed over",)


def test_an_epoch_that_comes_again_replaces_what_followed():
    text = log((0.5, 0.6), (0.4, 0.5), (0.3, 0.4)) + GOOD.format(2, 0.45, 0.55)
    assert parse_log(text).train.tolist() == [0.5, 0.45]


def test_metrics_csv_counts_from_zero_and_a_torn_row_is_passed_over():
    curves = parse_metrics("epoch,val/loss,train/loss,lr\n0,0.6,0.5,0.1\n1,0.5,0.4,0.1\n2,0.4")
    assert curves.epochs.tolist() == [1, 2]
    assert curves.notes == ("1 damaged row of metrics.csv passed over",)


def test_metrics_csv_without_epochs_is_an_error():
    with pytest.raises(DataError, match=r"metrics.csv has no column epoch, it has a, b"):
        parse_metrics("a,b\n1,2\n")
    with pytest.raises(DataError, match="it has none"):
        parse_metrics("")


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path):
    path = tmp_path / "train_log.txt"
    path.write_bytes(b"\xff\xfe\x00garbage\n" + log((0.5, 0.6)).encode())
    assert parse_log(read_text(path)).train.tolist() == [0.5]
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / "missing.txt")
