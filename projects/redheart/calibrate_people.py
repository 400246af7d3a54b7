"""`python -m projects.redheart.calibrate_people RUN --people people.csv`: probabilities corrected by how readers felt.

A logistic correction of the run's calibrated probabilities by valence, arousal, dominance and, where given, EEG, all
z-scored within a person; fitted on the calibrate fold without a person and without the stories he rated, and
measured on his ratings of the test fold.
"""

import argparse
from pathlib import Path

from shared.entry import exit_codes


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.calibrate_people", description=__doc__)
    parser.add_argument("run", type=Path, help="finished run")
    parser.add_argument("--people", type=Path, required=True, help="CSV: id, subject, valence, arousal, dominance, EEG")
    parser.add_argument("--out", type=Path, default=None, help=".json to write (<run>/people/calibration.json)")
    given = parser.parse_args(argv)
    with exit_codes():
        _calibrate(given)


def _calibrate(given: argparse.Namespace) -> None:
    import sys

    from rich.console import Console

    from projects.redheart.ablation.opened_run import open_run
    from projects.redheart.data.subjects import read_subjects
    from projects.redheart.people.pages import print_calibration
    from projects.redheart.people.rated_stories import rated_stories
    from projects.redheart.people.subject_calibration import calibrate
    from shared.atomic import write_json
    from shared.session import progress_bars

    table = read_subjects(given.people)
    with progress_bars(Console(file=sys.stderr)) as progress:
        opened = open_run(given.run, progress)
        rated, notes = rated_stories(opened, table, given.people)
    found = calibrate(rated, seed=opened.loaded.settings.seed)
    content = {
        "schema": 1, "run": opened.loaded.run.path.name, "final_sha256": opened.final_sha256,
        "columns": list(table.numbers), **found, "notes": notes,
    }  # fmt: skip
    out = given.out or opened.loaded.run.path / "people" / "calibration.json"
    write_json(out, content)
    print_calibration(content, Console())
    print(f"calibration: {out}", flush=True)


if __name__ == "__main__":
    main()
