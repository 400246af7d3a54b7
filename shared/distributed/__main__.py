"""`python -m shared.distributed <run directory> --rank k ...`: a rank above 0, started by rank 0 and by nobody else."""

import argparse
from pathlib import Path

from shared.entry import exit_codes


def main() -> None:
    """Read the place of this rank and train."""
    parser = argparse.ArgumentParser(prog="python -m shared.distributed", description=__doc__)
    parser.add_argument("folder", type=Path, help="run directory of rank 0")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True, help="file descriptor that rank 0 reads")
    parser.add_argument("--parent", type=int, required=True, help="process of rank 0")
    parser.add_argument("--checkpoint", type=Path, default=None)
    given = parser.parse_args()
    with exit_codes():
        from shared.distributed.rank_process import Place, run_rank
        from shared.distributed.share import RankShare

        share = RankShare(given.rank, given.ranks)
        run_rank(Place(given.folder, share, given.checkpoint, given.ready, given.parent))


if __name__ == "__main__":
    main()
