"""Sizes, ranges, padding, duplicates and sample pictures of a data set: `python -m projects.spectra.analyze_data`."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from projects.spectra.data.datamodule import CurveDataModule
from projects.spectra.data.summary import distribution_figure, sample_figure, summarise, summary_markdown
from shared.atomic import write_bytes, write_text
from shared.config import to_plain
from shared.curve_scores import CurveAxes
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError, DataError, UserError
from shared.instantiate import instantiate
from shared.report.figure_style import png_bytes

NUM_SHOWN = 6


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m projects.spectra.analyze_data", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="changes of the data section, for example data.mat_id=2")
    which = parser.add_argument_group("data", "one of the configurations, or paired files")
    which.add_argument("--data", help=f"one of {', '.join(data_names())}; without it and without files: stand-in data")
    which.add_argument("--struct", nargs="+", help="structure files")
    which.add_argument("--spectra", nargs="+", help="spectra files, in the order of the structure files")
    which.add_argument("--sign", help="auto, negative or positive; without it: as configured")
    which.add_argument("--allow-asymmetric", action="store_true", help="accept patterns without the diagonal symmetry")
    parser.add_argument("--workers", type=int, help="processes that make stand-in data; without it: as configured")
    parser.add_argument("--out", type=Path, default=Path("outputs/spectra/data"), help="folder to fill (%(default)s)")
    # The default of conf/base: what a run has packed is not packed again.
    parser.add_argument("--cache", type=Path, default=Path("data"), help="made data and stores (%(default)s)")
    return parser


def data_names() -> list[str]:
    """Names of the configurations of this project's data that say where the files are."""
    found = sorted(path.stem for path in Path(CONFIG_FOLDER, "data").glob("spectra_*.yaml"))
    return [name for name in found if name != "spectra_files"]


def open_data(args: argparse.Namespace) -> CurveDataModule:
    """Build the datamodule that a run with this configuration would build.

    Raises:
        ConfigError: If both a configuration and files are given, or the configuration is unknown or does not compose.
    """
    has_files = args.struct is not None or args.spectra is not None
    if has_files and args.data is not None:
        raise ConfigError("--data names a configuration with files of its own; give it, or --struct and --spectra")
    name = "spectra_files" if has_files else args.data or "spectra_standin"
    if name not in (*data_names(), "spectra_files"):
        raise ConfigError(f"--data is {name!r}; allowed are {', '.join(data_names())}")
    config = _composed(name, args.overrides)
    section = config.data
    if has_files:
        section.struct_files, section.spectra_files = args.struct or [], args.spectra or []
    plain = to_plain(section)
    given = {"sign": args.sign, "allow_asymmetric": args.allow_asymmetric or None, "standin_workers": args.workers}
    plain |= {key: value for key, value in given.items() if value is not None}
    datamodule = instantiate(plain, "data", seed=config.seed, cache_folder=str(args.cache))
    assert isinstance(datamodule, CurveDataModule)
    return datamodule


def _composed(name: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        if not override.startswith("data."):
            raise ConfigError(f"analyze_data takes overrides of data only, got {override}")
    try:
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            return compose("spectra", [f"data={name}", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(overrides)} does not compose: {str(error).splitlines()[0]}") from error


def analyze(args: argparse.Namespace) -> Path:
    """Write data_summary.md and its pictures; return the page.

    Raises:
        ConfigError: As `open_data`.
        DataError: As the datamodule, or a file cannot be read or written.
    """
    datamodule = open_data(args)
    with _naming(args.cache):
        store, index, findings = datamodule.build_store()
    channels, axis = datamodule.channels_and_axis()
    axes = CurveAxes.from_dict({"channels": channels, "axis": axis})
    summary = summarise(store, index, axes)
    rows = np.unique(np.linspace(0, len(store) - 1, NUM_SHOWN).astype(np.int64))
    names = [index.ids[int(row)].rpartition("/")[2] for row in rows]
    figures = {
        "samples.png": sample_figure(store, rows, names, axes),
        "spread.png": distribution_figure(summary, store),
    }
    content = summary_markdown(summary, store, findings, list(figures))
    page: Path = args.out / "data_summary.md"
    with _naming(args.out):
        for name, figure in figures.items():
            write_bytes(args.out / name, png_bytes(figure))
        write_text(page, content)
    return page


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say which file an `OSError` is about; a full disk names none, so the folder that is being filled."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read or written ({error.strerror or error}).") from error


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        page = analyze(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"summary: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
