"""What is in the store of paired files, two levels and symmetry, and when the files are read again."""

import os

import numpy as np
import pytest

from projects.spectra.data import pairs_store as source
from projects.spectra.data.pairs_store import pairs_store
from projects.spectra.spectrum import cells_from_rgb
from projects.spectra.symmetry import GROUPS
from shared.errors import DataError
from tests.fabricate.spectra_npy import write_pair


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


def stored(pair, tmp_path, *, allow_asymmetric=False, sign="auto"):
    return pairs_store(
        [pair.struct_path],
        [pair.spectra_path],
        tmp_path / "indices",
        sign=sign,
        allow_asymmetric=allow_asymmetric,
        num_wavelengths=30,
        source="real",
    )


def test_a_negative_file_is_flipped_and_its_padding_dropped(pair, tmp_path):
    store, index, findings = stored(pair, tmp_path)
    assert findings == ["2 of 24 rows are padding (all zero) and are left out"]
    assert len(store) == len(index) == 22
    np.testing.assert_array_equal(store.pictures(np.arange(22)), pair.structures[:22])
    np.testing.assert_allclose(store.target, cells_from_rgb(pair.spectra[:22], 30), rtol=1e-6)
    assert (store.target > 0).all()
    assert index.ids[3] == f"{pair.struct_path.parent.name}/struct_0.npy#3"
    assert index.source == "real"


def test_a_positive_file_is_left_as_it_is_and_that_is_said(pair, tmp_path):
    negative, _, _ = stored(pair, tmp_path / "negative")
    np.save(pair.spectra_path, pair.spectra)
    store, _, findings = stored(pair, tmp_path)
    np.testing.assert_array_equal(store.target, negative.target)
    assert any("already positive" in sentence for sentence in findings)


@pytest.mark.parametrize("levels", [(0, 128), (0, 1, 255), (1, 2)])
def test_other_values_than_two_levels_are_refused(pair, tmp_path, levels):
    structures = pair.structures[:, None] * np.uint8(255)
    structures[7] = levels[0]
    for place, level in enumerate(levels):
        structures[7, 0, place, place] = level
    np.save(pair.struct_path, structures)
    with pytest.raises(DataError, match=r"two levels, first in row 7: .*must hold 0 and 255, or 0 and 1"):
        stored(pair, tmp_path)
    assert not [each for each in (tmp_path / "indices").iterdir() if each.is_dir()]  # nothing half-made is left


def test_padding_rows_may_hold_any_structure(pair, tmp_path):
    structures = pair.structures[:, None] * np.uint8(255)
    structures[-1, 0, 3, 4] = 77
    np.save(pair.struct_path, structures)
    assert len(stored(pair, tmp_path)[0]) == 22


def test_asymmetric_patterns_are_refused_or_told(pair, tmp_path):
    structures = pair.structures[:, None] * np.uint8(255)
    structures[[4, 6], 0, 0, 9] ^= 255
    np.save(pair.struct_path, structures)
    with pytest.raises(DataError, match=r"2 of 22 patterns .* first row 4 of .*allow_asymmetric=true"):
        stored(pair, tmp_path)
    store, _, findings = stored(pair, tmp_path, allow_asymmetric=True)
    assert "the two G quadrants of the cell get the same target" in findings[-1]
    np.testing.assert_array_equal(store.target[:, 0, 1], store.target[:, 1, 0])


@pytest.mark.parametrize(
    ("structures_as", "spectra_as"),
    [
        (lambda s: s[:, None].astype(bool), lambda c: -c.astype(np.float64)),
        (lambda s: s[:, None].astype(">i4"), lambda c: -c.astype(">f4")),
        (lambda s: np.asfortranarray(s[:, None] * np.uint8(255)), lambda c: np.asfortranarray(-c)),
    ],
    ids=["bool and float64", "big-endian", "Fortran order"],
)
def test_other_ways_to_store_the_same_numbers_give_the_same_store(
    pair, tmp_path, structures_as, spectra_as, monkeypatch
):
    plain, _, _ = stored(pair, tmp_path / "plain")
    np.save(pair.struct_path, structures_as(pair.structures))
    np.save(pair.spectra_path, spectra_as(pair.spectra))
    store, _, _ = stored(pair, tmp_path)
    np.testing.assert_array_equal(store.bits, plain.bits)
    np.testing.assert_array_equal(store.target, plain.target)


def test_rows_of_the_store_are_those_of_the_files_whatever_the_chunk(tmp_path, monkeypatch):
    pairs = [write_pair(tmp_path, number, num=11, num_padding=3) for number in range(2)]
    files = [each.struct_path for each in pairs], [each.spectra_path for each in pairs]
    monkeypatch.setattr("projects.spectra.data.npy_pairs.chunks.__defaults__", (4,))
    store, index, _ = pairs_store(
        *files, tmp_path / "i", sign="auto", allow_asymmetric=False, num_wavelengths=7, source="real"
    )
    expected = np.concatenate([each.structures[:8] for each in pairs])
    np.testing.assert_array_equal(store.pictures(np.arange(16)), expected)
    assert index.ids.to_list() == [
        f"{tmp_path.name}/struct_{number}.npy#{row}" for number in range(2) for row in range(8)
    ]


def test_the_sets_of_a_real_solver_are_read(real_data, tmp_path):
    folder = real_data / "spectra_rcwa"
    files = [[folder / f"coarse_{number}_{what}.npy" for number in (0, 1)] for what in ("struct", "spectra")]
    store, index, findings = pairs_store(
        *files, tmp_path, sign="auto", allow_asymmetric=False, num_wavelengths=30, source="real"
    )
    assert store.output_shape == (2, 2, 30)
    assert findings == ["8 of 400 rows are padding (all zero) and are left out"]
    assert len(index.group_names) == len(index) == 392
    raw = np.load(files[1][0])[0].astype(np.float64)
    np.testing.assert_allclose(
        store.target[0, 0, 0], np.interp(np.linspace(0, 300, 30), range(301), -raw[2]), rtol=1e-6
    )


def reads(pair, tmp_path, monkeypatch):
    """Return how often `stored` opened the files."""
    opened = []
    original = source.open_pairs
    monkeypatch.setattr(source, "open_pairs", lambda *args, **named: opened.append(1) or original(*args, **named))
    stored(pair, tmp_path)
    monkeypatch.setattr(source, "open_pairs", original)
    return len(opened)


def test_files_are_read_again_only_when_size_or_time_changes(pair, tmp_path, monkeypatch):
    assert reads(pair, tmp_path, monkeypatch) == 1
    assert reads(pair, tmp_path, monkeypatch) == 0
    status = pair.struct_path.stat()
    os.utime(pair.struct_path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert reads(pair, tmp_path, monkeypatch) == 1
    times = pair.spectra_path.stat()
    np.save(pair.spectra_path, -pair.spectra.astype(np.float64))  # another size
    os.utime(pair.spectra_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert reads(pair, tmp_path, monkeypatch) == 1
    assert reads(pair, tmp_path, monkeypatch) == 0


def test_settings_that_change_the_store_have_one_of_their_own(pair, tmp_path):
    folders = {stored(pair, tmp_path, sign=sign)[0].folder for sign in ("auto", "negative")}
    folders |= {stored(pair, tmp_path, allow_asymmetric=allowed)[0].folder for allowed in (False, True)}
    assert len(folders) == 3


def test_a_store_whose_making_was_cut_short_is_made_from_the_beginning(pair, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source, "_index", killed)  # bits and curves are written by then
        with pytest.raises(KeyboardInterrupt):
            stored(pair, tmp_path)
    store, index, _ = stored(pair, tmp_path)
    assert len(store) == len(index) == 22


def test_progress_counts_the_rows_of_all_files(tmp_path, monkeypatch):
    pairs = [write_pair(tmp_path, number, num=6, num_padding=1) for number in range(2)]
    monkeypatch.setattr("projects.spectra.data.npy_pairs.chunks.__defaults__", (4,))
    seen = []
    pairs_store(
        [each.struct_path for each in pairs],
        [each.spectra_path for each in pairs],
        tmp_path / "indices",
        sign="auto",
        allow_asymmetric=False,
        num_wavelengths=30,
        source="real",
        on_progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(4, 12), (6, 12), (10, 12), (12, 12)]


def test_a_pattern_and_its_variants_are_one_group_and_blank_patterns_are_another(pair, tmp_path):
    structures = pair.structures.copy()
    structures[1] = GROUPS["rotation_180"][1].apply_to_structure(structures[0])
    structures[[5, 8]] = 0
    np.save(pair.struct_path, structures[:, None])
    _, index, _ = stored(pair, tmp_path)
    assert index.group[0] == index.group[1]
    assert index.group[5] == index.group[8]
    assert len(index.group_names) == 20


def test_a_file_of_blank_patterns_alone_is_read(pair, tmp_path):
    np.save(pair.struct_path, np.zeros_like(pair.structures)[:, None])
    store, index, _ = stored(pair, tmp_path)
    assert not store.bits.any()
    assert len(index.group_names) == 1


def test_two_files_may_have_the_two_levels_each_in_its_own_way_but_one_file_may_not(tmp_path):
    pairs = [write_pair(tmp_path, number) for number in range(2)]
    np.save(pairs[1].struct_path, pairs[1].structures[:, None])
    files = [each.struct_path for each in pairs], [each.spectra_path for each in pairs]
    settings = dict(sign="auto", allow_asymmetric=False, num_wavelengths=30, source="real")
    store, _, _ = pairs_store(*files, tmp_path / "indices", **settings)
    np.testing.assert_array_equal(store.pictures(np.arange(22, 44)), pairs[1].structures[:22])
    mixed = pairs[1].structures[:, None].copy()
    mixed[9] *= 255
    np.save(pairs[1].struct_path, mixed)
    with pytest.raises(DataError, match=r"struct_1.npy has other values than two levels, first in row 0: 0, 1"):
        pairs_store(*files, tmp_path / "indices", **settings)
