"""A logger that keeps what it is given."""

from typing import Any

from lightning.pytorch.loggers.logger import Logger


class KeptLogs(Logger):
    """Rows as (step, {key: value}), in order."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *arguments: Any, **more: Any) -> None:
        """Not looked at."""

    def last(self, prefix: str) -> dict[str, float]:
        """The last row with a key that begins so, cut to such keys."""
        rows = [row for _, row in self.rows if any(key.startswith(prefix) for key in row)]
        return {key: value for key, value in rows[-1].items() if key.startswith(prefix)}
