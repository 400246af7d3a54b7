import csv
import statistics

import pytest

from bench.record import COLUMNS, HISTORY, Measurement, Record, plain_number, run_benchmark
from shared.errors import DataError


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def fill(record):
    record.add("share, in all", 0.5, "ratio")
    record.add_samples("step", [4.0, 1.0, 2.0, 8.0, 3.0], "ms")


def test_samples_become_their_median_and_the_distance_between_their_quartiles(tmp_path):
    values = [4.0, 1.0, 2.0, 8.0, 3.0]
    record = Record("bench_x", tmp_path / "history.csv")
    record.add_samples("step", values, "ms")
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    assert record.measurements == [Measurement("step", middle, "ms", high - low)]


def test_each_run_adds_its_rows_below_one_header(tmp_path):
    history = tmp_path / "history.csv"
    for _ in range(2):
        run_benchmark("bench_x", fill, [], history)
    assert history.read_text().splitlines()[0] == ",".join(COLUMNS)
    found = rows(history)
    assert [row["what"] for row in found] == ["share, in all", "step"] * 2
    assert [row["spread"] for row in found[:2]] == ["", "2"]
    assert found[1]["value"] == "3"
    assert found[0]["command"] == "python -m bench.bench_x"
    assert all(row[column] for row in found for column in COLUMNS if column != "spread")


def test_no_record_prints_and_leaves_the_history_alone(tmp_path, capsys):
    history = tmp_path / "history.csv"
    run_benchmark("bench_x", fill, ["--no-record"], history)
    assert not history.exists()
    printed = capsys.readouterr().out.splitlines()
    assert "cores" in printed[0]
    assert "load" in printed[0]
    assert printed[2].split() == ["step", "3", "ms", "(quartiles", "2", "apart)"]


def test_a_benchmark_that_fails_records_nothing(tmp_path):
    def fail(record):
        fill(record)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        run_benchmark("bench_x", fail, [], tmp_path / "history.csv")
    assert not (tmp_path / "history.csv").exists()


def test_other_columns_are_refused_and_left_alone(tmp_path):
    history = tmp_path / "history.csv"
    history.write_text("date,value\n1,2\n")
    with pytest.raises(DataError, match="date,value"):
        run_benchmark("bench_x", fill, [], history)
    assert history.read_text() == "date,value\n1,2\n"


def test_a_last_line_without_its_end_is_not_glued_to_the_next(tmp_path):
    history = tmp_path / "history.csv"
    history.write_text(",".join(COLUMNS) + "\n" + ",".join("a" * len(COLUMNS)))
    run_benchmark("bench_x", fill, [], history)
    assert [row["benchmark"] for row in rows(history)] == ["a", "bench_x", "bench_x"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="finite"):
        Record("bench_x", tmp_path / "history.csv").add("step", value, "ms")


@pytest.mark.parametrize(
    ("value", "text"), [(123456.7, "123500"), (0.0123456, "0.01235"), (2.0, "2"), (1e-7, "0.0000001"), (0.0, "0")]
)
def test_numbers_have_four_digits_and_no_exponent(value, text):
    assert plain_number(value) == text


def test_the_kept_history_is_readable():
    assert HISTORY.exists()
    for row in rows(HISTORY):
        assert set(row) == set(COLUMNS)
        assert float(row["value"]) >= 0 or "growth" in row["what"]
        assert "cores" in row["machine"]
