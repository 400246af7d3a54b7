import numpy as np
import pytest

from projects.battery.data.consistency import (
    bad_file_counts,
    consistency_findings,
    defect_rates,
    is_defect,
    write_defect_rates,
)
from projects.battery.data.scan import scan_ct


@pytest.fixture
def index(slices, tmp_path):
    return scan_ct(tmp_path / "data").index


def test_defects_are_the_classes_that_are_not_normal(slices, index):
    assert is_defect(index).tolist() == [each.label["defects"] is not None for each in slices]


def test_the_rate_of_each_battery_and_axis(slices, index, tmp_path):
    rates = defect_rates(index)
    assert len(rates) == 18
    assert [(rate.battery, rate.axis) for rate in rates[:3]] == [("cell_0101", axis) for axis in "xyz"]
    for rate in rates:
        members = [each for each in slices if (f"{each.kind}_{each.battery}", each.axis) == (rate.battery, rate.axis)]
        assert rate.num_slices == len(members)
        assert rate.rate == np.mean([each.label["defects"] is not None for each in members])
    write_defect_rates(tmp_path / "out" / "rates.csv", rates)
    lines = (tmp_path / "out" / "rates.csv").read_text().splitlines()
    assert lines[:3] == ["battery,axis,slices,defects,rate", "cell_0101,x,2,0,0.0000", "cell_0101,y,2,1,0.5000"]
    assert len(lines) == 19


def test_an_axis_that_is_always_normal_is_a_finding(index):
    (finding,) = consistency_findings(index)
    assert finding.startswith("0.00% of the 12 x slices show a defect, 50.0% of the others:")
    assert "exclude_axes_from_fit=[x]" in finding
    only_yz = index.take(np.flatnonzero(index.meta["axis"] != 0))
    assert consistency_findings(only_yz) == []


def test_contradicting_labels_are_counted_and_named(slices, tmp_path):
    slices[0].rewrite_label(is_normal=False)
    slices[2].rewrite_label(is_normal=False)
    slices[7].label_path.unlink()
    result = scan_ct(tmp_path / "data", on_bad_file="skip")
    assert list(bad_file_counts(result.skipped).items()) == [("no label", 1), ("contradiction", 2)]
    assert "2 labels contradict themselves" in consistency_findings(result.index, result.skipped)[0]
    assert slices[0].image_path.name in consistency_findings(result.index, result.skipped)[0]
