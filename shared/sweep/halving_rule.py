"""The setting `halving` of a sweep; the settings are read without torch, so its callback stands elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import ConfigError
from shared.instantiate import unknown_key

WHERE = "hydra.sweeper.halving"
LEAST = {"first_epoch": 1, "eta": 2}
"""Its keys and the least value of each."""


@dataclass(frozen=True)
class HalvingRule:
    """When points are compared, and how many go on.

    Attributes:
        first_epoch: Epochs before the first rung, >= 1.
        eta: One of so many goes on, >= 2; also the factor from rung to rung.

    Raises:
        ConfigError: If a number is out of range.
    """

    first_epoch: int
    eta: int

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{WHERE}.{name} is {value!r}; a whole number from {least} on is needed")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "HalvingRule | None":
        """The rule of a sweep, None where it has none.

        Raises:
            ConfigError: If it is anything but null or {first_epoch, eta}.
        """
        given = settings.get("halving")
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise ConfigError(f"{WHERE} is {given!r}; allowed are null and {{first_epoch: 1, eta: 3}}")
        for key in given:
            if key not in LEAST:
                raise ConfigError(unknown_key(f"{WHERE}.{key}", [f"{WHERE}.{name}" for name in LEAST]))
        for key in LEAST:
            if key not in given:
                raise ConfigError(f"{WHERE} lacks {key}; a whole number from {LEAST[key]} on is needed")
        return cls(given["first_epoch"], given["eta"])

    def is_rung(self, epochs: int) -> bool:
        """Whether points are compared after so many epochs.

        Example:
            >>> [epochs for epochs in range(30) if HalvingRule(2, 3).is_rung(epochs)]
            [2, 6, 18]
        """
        rung = self.first_epoch
        while rung < epochs:
            rung *= self.eta
        return rung == epochs
