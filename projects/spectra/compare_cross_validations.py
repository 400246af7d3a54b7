"""`python -m projects.spectra.compare_cross_validations RESULT_A RESULT_B`: final of A minus final of B, paired.

Both are directories that cross_validate wrote, on the same data and folds: fine-tuned against from-scratch.
"""

import argparse
from pathlib import Path

from shared.entry import exit_codes


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.spectra.compare_cross_validations", description=__doc__)
    parser.add_argument("result_a", type=Path, help="directory of a cross-validation")
    parser.add_argument("result_b", type=Path, help="directory of the one that is subtracted")
    given = parser.parse_args(argv)
    with exit_codes():
        path = compare(given.result_a, given.result_b)
    print(f"comparison: {path}", flush=True)


def compare(result_a: Path, result_b: Path) -> Path:
    """Print the table and write the comparison beside the first result; return the file.

    Raises:
        UserError: If a result is not finished, or the two do not stand on the same data and folds.
    """
    from rich.console import Console

    from projects.spectra.cross_validation.paired import compare_results, paired_table, read_result
    from shared.atomic import write_json

    a, b = read_result(result_a), read_result(result_b)
    content = compare_results(a, b)
    path = a.path.parent / f"{a.path.name}-minus-{b.content['experiment']}-{b.path.name}.json"
    write_json(path, content)
    Console().print(paired_table(content))
    return path


if __name__ == "__main__":
    main()
