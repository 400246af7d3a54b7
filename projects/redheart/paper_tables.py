"""`python -m projects.redheart.paper_tables RUN... --out DIR`: the tables, figures and text of a paper.

Everything comes from the run directories, so the same command gives the same bytes again: what lies beside a run (the
quality facts of its prepared stories, the results of the sweep that optimizer.lr_from names) is copied to
`<run>/paper_sources/` by the first call and read from there by all later ones, whatever becomes of the originals.
main.tex holds all of it and compiles as it is.
"""

import argparse
from pathlib import Path

from shared.entry import exit_codes


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.paper_tables", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs; abstract and limitations are of the first")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--sweep",
        type=Path,
        default=None,
        help="sweep that chose the rate (the copy in the run, else the one in config.yaml)",
    )
    given = parser.parse_args(argv)
    with exit_codes():
        _write(given)


def _write(given: argparse.Namespace) -> None:
    from projects.redheart.paper.sources import read_sources
    from projects.redheart.paper.write import write_paper
    from shared.errors import DataError

    sources = read_sources(given.runs, given.sweep)
    try:
        written = write_paper(given.out, sources)
    except OSError as error:
        raise DataError(f"{given.out} cannot be written ({error})") from error
    print(f"{len(written)} files, first to read: {given.out / 'main.tex'}")
    print(f"paper: {given.out}", flush=True)


if __name__ == "__main__":
    main()
