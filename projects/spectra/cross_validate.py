"""`python -m projects.spectra.cross_validate +experiment=deepnano|rcwa_scratch|rcwa_finetune [overrides]`.

Five runs of the experiment, each tested on another fifth of the groups, pooled and compared with floors on the same
folds. Rounds that are finished under the same configuration are taken over, an interrupted one goes on.
"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from shared.entry import exit_codes, train


def cross_validate_job(config: DictConfig) -> None:
    """Run one composed cross-validation and print its last line."""
    from projects.spectra.cross_validation.job import cross_validate

    with exit_codes():
        result = cross_validate(config, tuple(HydraConfig.get().overrides.task))
    print(f"run: {result}", flush=True)


if __name__ == "__main__":
    train("spectra", cross_validate_job)
