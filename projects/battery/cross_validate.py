"""`python -m projects.battery.cross_validate +experiment=elpv_late_fusion [overrides]`: all of ELPV, beside the floor.

Five runs of the experiment, each tested on another fifth of the images, pooled and compared with a random forest on the
same folds. Rounds that are finished under the same configuration are taken over, an interrupted one goes on.
"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from shared.entry import exit_codes, train


def cross_validate_job(config: DictConfig) -> None:
    """Run one composed cross-validation and print its last line."""
    from projects.battery.cross_validation.job import cross_validate

    with exit_codes():
        result = cross_validate(config, tuple(HydraConfig.get().overrides.task))
    print(f"run: {result}", flush=True)


if __name__ == "__main__":
    train("battery", cross_validate_job)
