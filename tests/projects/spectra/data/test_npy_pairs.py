"""Unpaired, unequal, misshapen or unreadable files, signs and padding: one sentence each."""

import numpy as np
import pytest

from projects.spectra.data.npy_pairs import chunks, open_pairs
from shared.errors import ConfigError, DataError
from tests.fabricate.spectra_npy import write_pair


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


def opened(pair, sign="auto"):
    return open_pairs([pair.struct_path], [pair.spectra_path], sign=sign, allow_asymmetric=False)


def test_an_explicit_sign_must_be_that_of_the_file(pair):
    assert opened(pair, "negative").factor == -1
    with pytest.raises(DataError, match=r"data.sign=positive but the spectra are negative .* use data.sign=negative"):
        opened(pair, "positive")
    with pytest.raises(ConfigError, match=r"data.sign is 'both'; allowed are auto, negative, positive"):
        opened(pair, "both")


def test_mixed_signs_are_refused_but_rounding_is_not(pair):
    spectra = -pair.spectra
    spectra[0, 0, 0] = 1e-5
    np.save(pair.spectra_path, spectra)
    checked = opened(pair)
    assert checked.factor == -1
    assert "other sign, up to 1e-05" in checked.findings[-1]
    spectra[0, 0, 0] = 0.1
    np.save(pair.spectra_path, spectra)
    with pytest.raises(DataError, match=r"both signs: down to -.* up to 0.1 in .*spectra_0.npy"):
        opened(pair)


def test_two_files_of_opposite_sign_are_refused(pair, tmp_path):
    other = write_pair(tmp_path, 1)
    np.save(other.spectra_path, other.spectra)
    files = [pair.struct_path, other.struct_path], [pair.spectra_path, other.spectra_path]
    with pytest.raises(DataError, match=r"down to .* in .*spectra_0.npy, up to .* in .*spectra_1.npy"):
        open_pairs(*files, sign="auto", allow_asymmetric=False)


def test_lists_must_pair_up(pair):
    with pytest.raises(ConfigError, match=r"data.struct_files names 1 file\(s\) and data.spectra_files 0"):
        open_pairs([pair.struct_path], [], sign="auto", allow_asymmetric=False)
    with pytest.raises(ConfigError, match="at least one pair"):
        open_pairs([], [], sign="auto", allow_asymmetric=False)
    with pytest.raises(ConfigError, match=r"data.struct_files is 'a.npy'; it must be a list"):
        open_pairs("a.npy", ["b.npy"], sign="auto", allow_asymmetric=False)
    with pytest.raises(ConfigError, match=r"data.spectra_files names .*spectra_0.npy twice"):
        open_pairs(["a.npy", "b.npy"], [pair.spectra_path] * 2, sign="auto", allow_asymmetric=False)


def test_partners_must_have_the_same_number_of_samples(pair):
    np.save(pair.spectra_path, -pair.spectra[:20])
    with pytest.raises(DataError, match=r"struct_0.npy has 24 samples but its partner .*spectra_0.npy 20"):
        opened(pair)


def test_all_files_must_have_the_same_side(pair, tmp_path):
    other = write_pair(tmp_path, 1, side=16)
    files = [pair.struct_path, other.struct_path], [pair.spectra_path, other.spectra_path]
    with pytest.raises(DataError, match=r"struct_0.npy has structures of side 32, .*struct_1.npy of side 16"):
        open_pairs(*files, sign="auto", allow_asymmetric=False)


@pytest.mark.parametrize("shape", [(24, 32, 32), (24, 1, 32, 48), (24, 2, 32, 32), (24, 1, 40, 40)])
def test_structures_of_another_shape_are_refused(pair, shape):
    np.save(pair.struct_path, np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"structures must be \(N, 1, S, S\) with S a multiple of 16"):
        opened(pair)


def test_spectra_of_another_shape_and_empty_files_are_refused(pair):
    np.save(pair.spectra_path, np.zeros((24, 3, 300), np.float32))
    with pytest.raises(DataError, match=r"shape \(24, 3, 300\); spectra must be \(N, 3, 301\)"):
        opened(pair)
    np.save(pair.struct_path, np.zeros((0, 1, 32, 32), np.uint8))
    with pytest.raises(DataError, match="no sample at all"):
        opened(pair)


def test_other_dtypes_are_refused(pair):
    np.save(pair.spectra_path, np.ones(pair.spectra.shape, np.int32))
    with pytest.raises(DataError, match="holds int32; spectra must be float32"):
        opened(pair)
    np.save(pair.struct_path, pair.structures[:, None].astype(np.float32))
    with pytest.raises(DataError, match="holds float32; structures must be uint8"):
        opened(pair)


def test_missing_foreign_and_cut_files_are_refused(pair, tmp_path):
    whole = pair.struct_path.read_bytes()
    pair.struct_path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"cut off: its header says shape \(24, 1, 32, 32\) of uint8, 24,704 bytes"):
        opened(pair)
    for content in (b"", b"PK\x03\x04 something else", whole[:40]):
        pair.struct_path.write_bytes(content)
        with pytest.raises(DataError, match=r"struct_0.npy is no .npy file, or its header is damaged"):
            opened(pair)
    pair.struct_path.unlink()
    with pytest.raises(DataError, match=r"struct_0.npy does not exist"):
        opened(pair)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_place(pair, value, monkeypatch):
    spectra = -pair.spectra
    spectra[[5, 9], 1, 300] = value
    np.save(pair.spectra_path, spectra)
    monkeypatch.setattr("projects.spectra.data.npy_pairs.CHUNK", 4)
    with pytest.raises(DataError, match=rf"not finite in 2 row\(s\), first in row 5 \({value} in G, band 300\)"):
        opened(pair)


def test_nothing_but_padding_is_refused(pair):
    np.save(pair.spectra_path, np.zeros_like(pair.spectra))
    with pytest.raises(DataError, match=r"all 24 rows of .* are zero, that is, padding"):
        opened(pair)


def test_files_of_one_name_in_two_folders_keep_apart(tmp_path):
    pairs = [write_pair(tmp_path / name, seed=number) for number, name in enumerate("ab")]
    files = [each.struct_path for each in pairs], [each.spectra_path for each in pairs]
    checked = open_pairs(*files, sign="auto", allow_asymmetric=False)
    assert [each.name for each in checked.pairs] == ["a/struct_0.npy", "b/struct_0.npy"]
    same = [write_pair(tmp_path / name / "set", seed=5) for name in "cd"]
    files = [each.struct_path for each in same], [each.spectra_path for each in same]
    checked = open_pairs(*files, sign="auto", allow_asymmetric=False)
    assert [each.name for each in checked.pairs] == [path.as_posix() for path in files[0]]


def test_a_cut_spectra_file_is_refused_before_it_is_read(pair):
    pair.spectra_path.write_bytes(pair.spectra_path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"spectra_0.npy is cut off: its header says shape \(24, 3, 301\) of float32"):
        opened(pair)


def test_a_positive_sign_asked_for_and_found_needs_no_finding(pair):
    np.save(pair.spectra_path, pair.spectra)
    checked = opened(pair, "positive")
    assert checked.factor == 1
    assert not any("sign" in sentence for sentence in checked.findings)
    with pytest.raises(DataError, match=r"data.sign=negative but the spectra are positive .* use data.sign=positive"):
        opened(pair, "negative")


def test_chunks_cover_all_rows_once():
    assert list(chunks(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(chunks(0, 4)) == []
