"""A sweep's folder whose ledger tells of points in every state, without any training."""

import math

from shared.sweep import exclusive_files
from shared.sweep.ledger import Proposal, SweepLedger

SETTINGS = {"retries": 1, "max_interruptions": 20, "lease_s": 90.0}
RATES = [[1e-5, 2.659e-5, 7.071e-5, 1.88e-4, 5e-4], [3.721e-5, 5.155e-5, 7.875e-5, 9.894e-5, 1.371e-4]]
SPACE = {
    "kind": "hierarchical_lr", "key": "optimizer.lr", "low": 1e-5, "high": 5e-4, "points_per_stage": 5, "stages": 2,
}  # fmt: skip
OUT_OF_MEMORY = "CUDA out of memory: 2 GiB wanted, 1.1 GiB free"


def loss(rate):
    """Lowest at 7.6e-5."""
    return 0.4 + 0.15 * (math.log10(rate) + 4.12) ** 2


class SweepFolder:
    """One sweep.

    Args:
        folder: Its folder, made here.
        space: Of its plans.
        facts: Of sweep.json, in place of the usual ones.
    """

    def __init__(self, folder, *, space=SPACE, **facts):
        folder.mkdir(parents=True)
        self.folder, self.space = folder, space
        content = {
            "schema": 1, "sweeper": "hierarchical_lr", "primary": "redheart", "overrides": ["+experiment=stories"],
            "settings": SETTINGS, "objective": "tests.fabricate.toy_objective.run", "direction": "min",
            "monitor": "val/loss", "score_name": "loss", "config_hash": "0" * 64, "config": {}, "started": 0.0,
        }  # fmt: skip
        exclusive_files.create(folder / "sweep.json", content | facts)
        self.ledger = SweepLedger(folder, retries=1)
        self.runs = folder.parents[1] / f"sweep-{folder.name}"

    def plan(self, values, stage=0):
        """Add points of these values (each a dict); returns their views."""
        before = len(self.ledger.points())
        proposals = [Proposal(one, tuple(f"{key}={value}" for key, value in one.items()), stage) for one in values]
        assert self.ledger.plan(proposals, space=self.space, after=len(self.ledger.plans()))
        return self.ledger.points()[before:]

    def run_of(self, number):
        """Run directory of a point."""
        return self.runs / f"20261122-0000{number:02d}-abc{number:03d}"

    def claim(self, number, job=None):
        """Take a point and name its run."""
        claim = self.ledger.claim(self.ledger.points()[number].id, job=job)
        claim.opened(str(self.run_of(number)))
        return claim

    def done(self, number, score, **outcome):
        """Run a point to its end."""
        self.claim(number).done({"score": score, "seconds": 1.0, **outcome})

    def fill(self):
        """Ten rates in two stages: six done, one failed for good, one running here, one interrupted, one planned."""
        for stage, rates in enumerate(RATES):
            self.plan([{"optimizer.lr": rate} for rate in rates], stage)
        for number, rate in enumerate([*RATES[0], RATES[1][0]]):
            self.done(number, loss(rate))
        self.claim(6).failed(OUT_OF_MEMORY, final=True)
        running = self.claim(7, job="process 7")
        running.note(epoch=3)
        running.__enter__()
        self.claim(8).interrupted("stopped by SIGTERM")
        return running
