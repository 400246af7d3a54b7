import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from projects.spectra import predict
from projects.spectra.module import SpectraRegressor
from shared.engine import fit
from shared.errors import CheckpointError, ConfigError, DataError
from shared.loading import LoadedRun
from tests.fabricate.spectra_run import tiny_run


@pytest.fixture
def loaded() -> LoadedRun:
    """Return a run whose network is small and random, for 32 px cells at 6 wavelengths."""
    module = SpectraRegressor(
        network="cnn_gru",
        parameters={"width": 0.0625},
        loss="mse_pearson",
        loss_parameters={},
        error_unit="spread",
        map_to_pm1=True,
        compile=False,
        init_from=None,
        output_shape=[2, 2, 6],
        channels=["B", "G upper right", "G lower left", "R"],
        axis={"name": "wavelength", "unit": "nm", "values": [400, 460, 520, 580, 640, 700]},
        image_side_px=32,
        target_mean=np.linspace(0.2, 0.3, 24).reshape(2, 2, 6).tolist(),
        target_spread=0.05,
        optimizer={"name": "adamw", "lr": 1e-3},
        scheduler={"name": "constant"},
    ).eval()
    run: Any = SimpleNamespace(path=Path("run7"))
    settings: Any = None
    return LoadedRun(run, settings, module, None, None)


@pytest.fixture
def command(loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch):
    """Return the command line with that run in place of every other."""
    monkeypatch.setattr(predict, "load_run", lambda path: loaded)
    return lambda *arguments: predict.main([str(argument) for argument in arguments])


def structures(folder: Path, count: int = 7, high: int = 255) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(1).integers(0, 2, (count, 1, 32, 32), dtype=np.uint8)
    pixels = np.maximum(pixels, pixels.swapaxes(2, 3)) * np.uint8(high)
    np.save(folder / "struct.npy", pixels)
    return folder / "struct.npy", pixels


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_curves_are_the_networks_own(command, loaded, tmp_path: Path, capsys, high: int, batch_size: int) -> None:
    source, pixels = structures(tmp_path, high=high)
    command(source, tmp_path / "deep" / "out.npy", "--batch-size", batch_size)
    written = np.load(tmp_path / "deep" / "out.npy")
    with torch.no_grad():
        expected = loaded.module.network(2 * torch.from_numpy(pixels > 0).float() - 1)
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, expected.numpy(), atol=1e-4)
    captured = capsys.readouterr()
    lines = captured.out.strip().splitlines()
    assert lines[-1] == f"predictions: {tmp_path / 'deep' / 'out.npy'}"
    assert "channels: B, G upper right, G lower left, R" in lines
    assert "wavelength: 6 points, 400 to 700 nm" in lines
    assert any(line.startswith("7 structures, ") and line.endswith("ms each in the network") for line in lines)
    assert "warning" not in captured.err


def test_asymmetric_patterns_are_only_warned_about(command, tmp_path: Path, capsys) -> None:
    source, pixels = structures(tmp_path)
    pixels[4, 0, 0, 9] = 255 - pixels[4, 0, 0, 9]
    np.save(source, pixels)
    command(source, tmp_path / "out.npy")
    assert "1 of 7 patterns are not symmetric about the main diagonal" in capsys.readouterr().err
    assert np.load(tmp_path / "out.npy").shape == (7, 2, 2, 6)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _with_nan(path: Path) -> None:
    pixels = np.load(path).astype(np.float32)
    pixels[0] = np.nan
    np.save(path, pixels)


def _grey(path: Path) -> None:
    pixels = np.load(path)
    pixels[5, 0, 3, 3] = 128
    np.save(path, pixels)


def _mixed(path: Path) -> None:
    pixels = np.load(path)
    pixels[3] //= 255
    np.save(path, pixels)


BROKEN = [
    (Path.unlink, "struct.npy does not exist"),
    (lambda path: path.write_bytes(b"no array"), "struct.npy is no .npy file"),
    (_cut, "struct.npy is cut off"),
    (_with_nan, "struct.npy holds float32; structures must be uint8"),
    (_grey, "struct.npy holds the values 0, 128, 255 .*allowed are 0 and 1, or 0 and 255"),
    (_mixed, "struct.npy holds the values 0, 1, 255"),
    (lambda path: np.save(path, np.zeros((3, 1, 64, 64), np.uint8)), r"has shape \(3, 1, 64, 64\); .*\(N, 1, 32, 32\)"),
    (lambda path: np.save(path, np.zeros((3, 32, 32), np.uint8)), r"has shape \(3, 32, 32\)"),
    (lambda path: np.save(path, np.zeros((0, 1, 32, 32), np.uint8)), "N >= 1"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_broken_files_are_named_and_nothing_is_written(loaded, monkeypatch, tmp_path: Path, spoil, message) -> None:
    monkeypatch.setattr(predict, "load_run", lambda path: loaded)
    source, _ = structures(tmp_path)
    spoil(source)
    with pytest.raises(DataError, match=message):
        predict._predict(source, tmp_path / "out.npy", Path("run"), 4)
    assert not (tmp_path / "out.npy").exists()


def test_levels_are_those_of_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose two encodings lie in different chunks is as wrong as one with both in a chunk."""
    monkeypatch.setattr(predict, "CHUNK", 2)
    pixels = np.zeros((7, 1, 32, 32), np.uint8)
    pixels[0, 0, 5, 5], pixels[6, 0, 5, 5] = 255, 1
    np.save(tmp_path / "struct.npy", pixels)
    with pytest.raises(DataError, match="holds the values 0, 1, 255 in or before rows 6 to 6"):
        predict.count_asymmetric(predict.open_structures(tmp_path / "struct.npy", 32))


def test_an_interruption_leaves_the_old_file(command, loaded, tmp_path: Path, monkeypatch) -> None:
    source, _ = structures(tmp_path)
    (tmp_path / "out.npy").write_bytes(b"before")
    answers = iter([torch.zeros(3, 2, 2, 6)])
    monkeypatch.setattr(LoadedRun, "predict", lambda run, batch: next(answers))
    with pytest.raises(StopIteration):
        command(source, tmp_path / "out.npy", "--batch-size", 3)
    assert (tmp_path / "out.npy").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "struct.npy"]


@pytest.mark.parametrize(
    ("out", "batch_size", "message"),
    [
        ("out.txt", 4, "the output is .*out.txt, allowed: a file name that ends in .npy"),
        ("struct.npy", 4, "struct.npy is the structure file itself"),
        ("out.npy", 0, "--batch-size is 0, allowed: 1 or more"),
    ],
)
def test_wrong_usage_is_refused(tmp_path: Path, out: str, batch_size: int, message: str) -> None:
    source, _ = structures(tmp_path)
    with pytest.raises(ConfigError, match=message):
        predict._predict(source, tmp_path / out, Path("run"), batch_size)


def test_runs_of_other_projects_are_refused(loaded, monkeypatch) -> None:
    other = LoadedRun(loaded.run, loaded.settings, torch.nn.Linear(1, 1), None, None)  # type: ignore[arg-type]
    monkeypatch.setattr(predict, "load_run", lambda path: other)
    with pytest.raises(CheckpointError, match="holds a Linear, allowed: runs of the spectra project"):
        predict.load_regressor(Path("run"))


def test_a_real_run_answers_its_test_cells_as_in_predictions_csv(tmp_path: Path, capsys) -> None:
    """From the command line to the file: a run as the engine leaves it, and the cells that it was tested on."""
    short = ("trainer.max_epochs=1", "stages=[fit, test]", "callbacks.panels.enabled=false")
    finished = fit(tiny_run(tmp_path / "outputs", tmp_path / "cache", *short), quiet=True)
    with (finished.run.path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [row["sample_id"] for row in rows]
    index = finished.datamodule.index
    position = {sample: row for row, sample in enumerate(index.ids)}
    pictures = finished.datamodule.pictures(np.array([position[name] for name in names]))
    np.save(tmp_path / "struct.npy", pictures[:, None] * np.uint8(255))
    arguments = (tmp_path / "struct.npy", tmp_path / "out.npy", "--run", finished.run.path, "--batch-size", 7)
    predict.main([str(argument) for argument in arguments])
    written = np.load(tmp_path / "out.npy")
    assert written.shape == (len(rows), 2, 2, 8)
    said = [[float(row[key]) for key in row if key.startswith("predicted_")] for row in rows]
    np.testing.assert_allclose(written.reshape(len(rows), -1), said, atol=1e-5)  # other batches round otherwise
    printed = capsys.readouterr()
    assert f"run: {finished.run.path}" in printed.out
    assert "wavelength: 8 points, 400 to 700 nm" in printed.out
    assert "warning" not in printed.err


def test_a_folder_that_is_no_run_ends_with_its_exit_code(tmp_path: Path, monkeypatch, capsys) -> None:
    source, _ = structures(tmp_path)
    with pytest.raises(SystemExit) as ended:
        predict.main([str(source), str(tmp_path / "out.npy"), "--run", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
