"""The page and its pictures of each kind of data, and what the command says when it cannot."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from projects.spectra.analyze_data import build_parser, data_names, main
from projects.spectra.data.datamodule import SpectraDataModule
from projects.spectra.data.deepnano import IMAGES, TABLE, WAVELENGTHS_NM
from shared.entry import CONFIG_FOLDER
from tests.fabricate.spectra_npy import write_pair


def test_the_page_tells_sizes_padding_and_energy(tmp_path, capsys):
    pair = write_pair(tmp_path)
    files = ["--struct", str(pair.struct_path), "--spectra", str(pair.spectra_path)]
    assert main([*files, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 0
    page = (tmp_path / "out" / "data_summary.md").read_text()
    assert f"summary: {tmp_path / 'out' / 'data_summary.md'}" in capsys.readouterr().out
    assert "(24, 1, 32, 32) | uint8" in page
    assert "| symmetric about the main diagonal | 22 of 22 |" in page
    assert "2 of 24 rows are padding" in page
    energy = (pair.spectra[:22, 0] + 2 * pair.spectra[:22, 1] + pair.spectra[:22, 2]).max()
    assert abs(float(page.split("| B + 2G + R, largest | ")[1].split(" ")[0]) - energy) < 1e-2
    for name in ("samples.png", "spread.png"):
        assert f"({name})" in page
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_configuration_and_the_same_files_by_name_share_one_store(tmp_path):
    pair = write_pair(tmp_path)
    common = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    changes = [f"data.struct_files=[{pair.struct_path}]", f"data.spectra_files=[{pair.spectra_path}]"]
    assert main(["--data", "spectra_rcwa", *changes, *common]) == 0
    page = (tmp_path / "out" / "data_summary.md").read_text()
    assert main(["--struct", str(pair.struct_path), "--spectra", str(pair.spectra_path), *common]) == 0
    assert (tmp_path / "out" / "data_summary.md").read_text() == page
    assert len(list((tmp_path / "cache" / "spectra" / "indices").iterdir())) == 1


def test_a_set_whose_curves_are_no_cells_shows_its_own_channels(tmp_path):
    columns = {f"T{axis}_{nm}": 0.25 if axis == "x" else 0.5 for axis in "xy" for nm in WAVELENGTHS_NM}
    table = pd.DataFrame({"row": range(8), "geom_id": range(8), "mat_id": 2, "eps_host": 1.0, **columns})
    table.loc[5, "Tx_625"] = 0.875
    table.to_csv(tmp_path / TABLE, index=False)
    images = np.random.default_rng(0).integers(0, 2, (8, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / IMAGES, images=images, geom_id=np.arange(8), row=np.arange(8))
    changes = [f"data.root={tmp_path}", "data.mat_id=2"]
    common = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main(["--data", "spectra_deepnano", *changes, *common]) == 0
    page = (tmp_path / "out" / "data_summary.md").read_text()
    assert f"{tmp_path / TABLE} |" in page
    assert f"{tmp_path / IMAGES} |" in page
    assert "| x polarisation | 0.25 | 0.875 | 0.250 to 0.265, median 0.250 |" in page
    assert "| y polarisation | 0.5 | 0.5 | 0.500 to 0.500, median 0.500 |" in page
    assert "2G" not in page
    assert (tmp_path / "out" / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_without_files_the_stand_in_of_a_run_is_made_with_as_many_processes_as_asked_for(tmp_path, monkeypatch):
    seen = []

    def generate(root, config, *, workers, on_progress):
        seen.append((root, workers))
        return write_pair(root).struct_path.parent

    monkeypatch.setattr("projects.spectra.standin.generate_standin", generate)
    for number, option in enumerate(([], ["--workers", "3"])):
        folder = tmp_path / str(number)
        assert main([*option, "--out", str(folder / "out"), "--cache", str(folder / "cache")]) == 0
    run = yaml.safe_load(Path(CONFIG_FOLDER, "data", "spectra_files.yaml").read_text())
    run |= yaml.safe_load(Path(CONFIG_FOLDER, "data", "spectra_standin.yaml").read_text())
    del run["defaults"], run["_target_"]
    SpectraDataModule(**run, seed=0, cache_folder=str(tmp_path / "0" / "cache")).build_store()
    assert [workers for _, workers in seen] == [1, 3, 1]
    assert seen[2][0] == seen[0][0]


def test_the_cache_is_that_of_a_run():
    base = yaml.safe_load(Path(CONFIG_FOLDER, "base", "default.yaml").read_text())
    assert build_parser().parse_args([]).cache == Path(base["paths"]["cache"])


def test_a_missing_partner_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    pair = write_pair(tmp_path)
    assert main(["--struct", str(pair.struct_path), "--cache", str(tmp_path / "cache")]) == 2
    assert "data.struct_files names 1 file(s) and data.spectra_files 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "battery_ct"], "--data is 'battery_ct'; allowed are spectra_deepnano, spectra_rcwa"),
        (["--data", "spectra_rcwa", "--struct", "a.npy"], "--data names a configuration with files of its own; give"),
        (["trainer.max_epochs=3"], "analyze_data takes overrides of data only, got trainer.max_epochs=3"),
        (["data.rooot=here"], "data.rooot=here does not compose: Could not override 'data.rooot'"),
        (["--data", "spectra_deepnano", "--sign", "auto"], "unknown config key data.sign; the nearest is"),
    ],
)
def test_what_is_no_data_of_this_project_is_refused(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_every_configuration_with_files_is_offered():
    assert {"spectra_standin", "spectra_rcwa", "spectra_rcwa_hard", "spectra_deepnano"} <= set(data_names())
    assert "spectra_files" not in data_names()


def test_the_file_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    pair = write_pair(tmp_path)
    files = ["--struct", str(pair.struct_path), "--spectra", str(pair.spectra_path)]
    file, out, cache = tmp_path / "a file", tmp_path / "out", tmp_path / "cache"
    file.touch()
    assert main([*files, "--out", str(out), "--cache", str(file)]) == 1
    assert f"{file / 'spectra' / 'indices'} cannot be read or written (Not a directory)." in capsys.readouterr().err
    assert main([*files, "--out", str(file), "--cache", str(cache)]) == 1
    assert f"{file} cannot be read or written (File exists)." in capsys.readouterr().err

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("projects.spectra.analyze_data.write_bytes", full)
    assert main([*files, "--out", str(out), "--cache", str(cache)]) == 1
    assert capsys.readouterr().err == f"{out} cannot be read or written (No space left on device).\n"
