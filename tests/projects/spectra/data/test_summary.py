"""Counts and ranges of a small set against hand counts, the page, and the pictures."""

import numpy as np
import pytest

from projects.spectra.data.pairs_store import pairs_store
from projects.spectra.data.store import load_or_build
from projects.spectra.data.summary import distribution_figure, sample_figure, summarise, summary_markdown
from projects.spectra.spectrum import CELL_CHANNELS, wavelengths_nm
from projects.spectra.symmetry import GROUPS
from shared.curve_scores import CurveAxes
from shared.sample_index import PackedStrings, SampleIndex
from tests.fabricate.spectra_npy import write_pair

CELL_AXES = CurveAxes(CELL_CHANNELS, "wavelength", "nm", tuple(wavelengths_nm(301).tolist()))
OTHER_AXES = CurveAxes(("left", "right"), "angle", "deg", (0.0, 10.0, 30.0))


@pytest.fixture
def pair(tmp_path):
    """22 samples: 0 and 1 identical, 2 the rotation of 3, 4 blank, 5 filled, 6 without the diagonal symmetry."""
    pair = write_pair(tmp_path)
    patterns = pair.structures
    patterns[1] = patterns[0]
    patterns[2] = GROUPS["rotation_180"][1].apply_to_structure(patterns[3])
    patterns[4], patterns[5] = 0, 1
    patterns[6, 0, 9] ^= 1
    np.save(pair.struct_path, patterns[:, None] * np.uint8(255))
    pair.spectra[7] *= 3  # more comes out than went in
    np.save(pair.spectra_path, -pair.spectra)
    return pair


@pytest.fixture
def data(pair, tmp_path):
    files = [pair.struct_path], [pair.spectra_path]
    settings = dict(sign="auto", allow_asymmetric=True, num_wavelengths=301, source="real")
    return pairs_store(*files, tmp_path / "indices", **settings)


@pytest.mark.parametrize("chunk", [4, 4096])
def test_the_numbers_are_those_of_a_hand_count(pair, data, chunk, monkeypatch):
    monkeypatch.setattr("projects.spectra.data.summary._CHUNK", chunk)
    summary = summarise(*data[:2], CELL_AXES)
    assert (summary.num_identical, summary.num_grouped, summary.num_symmetric) == (2, 4, 21)
    np.testing.assert_allclose(summary.fill, pair.structures[:22].mean(axis=(1, 2)))
    assert summary.fill[4:6].tolist() == [0, 1]
    red, green, blue = pair.spectra[:22].astype(np.float64).swapaxes(0, 1)
    np.testing.assert_allclose(summary.cell_energy, blue + 2 * green + red, rtol=1e-5)
    np.testing.assert_allclose(summary.energy, np.stack([blue, green, green, red], axis=1).mean(axis=2), rtol=1e-5)
    np.testing.assert_allclose(summary.lowest, [each.min() for each in (blue, green, green, red)], rtol=1e-6)
    np.testing.assert_allclose(summary.highest, [each.max() for each in (blue, green, green, red)], rtol=1e-6)


def test_the_page_says_it(pair, data):
    store, index, findings = data
    summary = summarise(store, index, CELL_AXES)
    page = summary_markdown(summary, store, findings, ["a picture.png"])
    assert f"| {pair.spectra_path} | (24, 3, 301) | float32 | 0.1 |" in page
    assert "| fill share | 0.000 to 1.000, median " in page
    assert "| symmetric about the main diagonal | 21 of 22 |" in page
    assert "| identical to another pattern | 2 |" in page
    assert "| identical to another or a variant of it (of 32) | 4 |" in page
    assert "| samples with B + 2G + R above 1 | " in page
    assert "- 2 of 24 rows are padding (all zero) and are left out" in page
    assert "- 1 of 22 patterns are not symmetric about the main diagonal, first row 6" in page
    assert "![a picture](a picture.png)" in page
    assert "- none" in summary_markdown(summary, store, [], [])


def test_the_pictures_show_the_curves_of_the_store(data):
    store, index, _ = data
    figure = sample_figure(store, np.array([3, 5]), ["one", "two"], CELL_AXES)
    patterns, curves = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in patterns] == ["one", "two"]
    np.testing.assert_array_equal(patterns[1].images[0].get_array(), np.ones((32, 32)))
    np.testing.assert_allclose(curves[0].lines[0].get_ydata(), store.target[3, 0, 0])
    np.testing.assert_allclose(curves[0].lines[2].get_ydata(), store.target[3, 1, 1])
    assert curves[1].get_ylim()[1] > store.target[[3, 5]].max()
    spread = distribution_figure(summarise(store, index, CELL_AXES), store)
    np.testing.assert_allclose(spread.axes[2].lines[0].get_ydata(), store.target[:, 0, 0].mean(axis=0), rtol=1e-5)


@pytest.fixture
def other(tmp_path):
    """Six samples of two channels at three angles; samples 0 and 1 share a group, 1 and 2 a pattern."""
    (tmp_path / "table.csv.gz").write_bytes(bytes(2_000_000))
    bits = np.arange(6 * 32, dtype=np.uint8).reshape(6, 32)
    bits[2] = bits[1]
    target = np.arange(36, dtype=np.float32).reshape(6, 2, 3) - 4
    digest = np.zeros((6, 16), dtype=np.uint8)
    digest[:, 0] = [0, 1, 1, 3, 4, 5]

    def fill(folder):
        np.save(folder / "bits.npy", bits)
        np.save(folder / "target.npy", target)
        index = SampleIndex(
            ids=PackedStrings.pack(f"row {row}" for row in range(6)),
            group=np.array([0, 0, 0, 1, 2, 3], dtype=np.int32),
            group_names=PackedStrings.pack(f"group {number}" for number in range(4)),
            label=np.zeros(6, dtype=np.int16),
            classes=("structure",),
            digest=digest,
            meta={},
            meta_names={},
            numbers={},
            source="real",
        )
        return index, []

    return load_or_build(tmp_path / "indices", {"files": [[str(tmp_path / "table.csv.gz"), 1, 2]]}, fill)[:2]


def test_other_curves_are_told_by_channel(other, tmp_path):
    store, index = other
    summary = summarise(store, index, OTHER_AXES)
    assert summary.cell_energy is None
    assert summary.energy[:2].tolist() == [[-3, 0], [3, 6]]
    page = summary_markdown(summary, store, [], [])
    assert f"| {tmp_path / 'table.csv.gz'} |  |  | 2.0 |" in page
    assert "| channel | lowest | highest | mean over the angle |" in page
    assert "| left | -4 | 28 | -3.000 to 27.000, median 12.000 |" in page
    assert "| right | -1 | 31 | 0.000 to 30.000, median 15.000 |" in page
    assert "| angle | 3 points, 0 to 30 deg |" in page
    assert "| identical to another pattern | 2 |" in page
    assert "| groups that stay in one fold | 4 |" in page
    for word in ("2G", "quadrant", "diagonal", "variant"):
        assert word not in page


def test_other_curves_are_drawn_with_their_own_channels(other):
    store, index = other
    figure = sample_figure(store, np.array([0, 4]), ["one", "two"], OTHER_AXES)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", "right"]
    picture, curves = figure.axes[0], figure.axes[3]
    assert not picture.texts  # no letters of quadrants
    assert curves.get_xlabel() == "angle, deg"
    np.testing.assert_array_equal(curves.lines[1].get_xdata(), OTHER_AXES.values)
    np.testing.assert_array_equal(curves.lines[1].get_ydata(), store.target[4, 1])
    low, high = curves.get_ylim()
    assert low <= -4
    assert high > store.target[4].max()
    spread = distribution_figure(summarise(store, index, OTHER_AXES), store).axes
    assert spread[1].get_title(loc="left") == "energy: mean of a curve over the angle"
    np.testing.assert_allclose(spread[2].lines[1].get_ydata(), store.target[:, 1].mean(axis=0))
