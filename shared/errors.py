"""Errors a user can act on: each is one sentence that names the file or key, what was found and what is allowed."""


class UserError(Exception):
    """Something outside the code must change; the entry points print it without a stack trace."""

    exit_code = 1


class ConfigError(UserError):
    """A configuration key or value is wrong (exit code 2, as for wrong usage)."""

    exit_code = 2


class DataError(UserError):
    """A data file, folder or table is missing, broken or contradicts another."""


class LeakError(UserError):
    """A sample or group would serve for two things that must stay apart."""


class CheckpointError(UserError):
    """A checkpoint or weights file cannot be used."""


class TrainingError(UserError):
    """The fit itself cannot go on, for example because the loss is not finite."""


class RunInterrupted(UserError):  # noqa: N818 - an interruption is no error
    """A signal stopped the run after its state was saved."""

    def __init__(self, signum: int, message: str) -> None:
        """Store the signal; the exit code is 128 + its number, as a shell reports it."""
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum
