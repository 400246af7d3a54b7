"""What a command of several steps has done so far, so that it goes on where it stopped."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.atomic import write_json
from shared.errors import ConfigError

SCHEMA = 1
DONE = "done"


class Steps:
    """Steps with their inputs and results, kept in a JSON file that is whole after every step.

    Args:
        path: The file; an existing one is continued.

    Raises:
        ConfigError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {"schema": SCHEMA, "steps": {}}
        if path.is_file():
            try:
                self.content = json.loads(path.read_text(encoding="utf-8"))
                if self.content["schema"] != SCHEMA:
                    raise ValueError(f"its schema is {self.content['schema']}")
                dict(self.content["steps"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path} cannot be read ({error}); remove it or give another --out") from error

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[], dict[str, Any]],
        complete: Callable[[dict[str, Any]], bool],
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        """Do a step, or take over its result where it was done with the same inputs and is still there.

        Args:
            name: Of the step.
            inputs: Plain values that its result depends on.
            work: Does it and returns plain values.
            complete: Whether a result is still there.
            say: Told what happens.

        Returns:
            The result.
        """
        inputs_hash = hash_of(inputs)
        former = self.content["steps"].get(name)
        if former and former["state"] == DONE and former["inputs"] == inputs_hash:
            result = dict(former["result"])
            if complete(result):
                say(f"{name}: done before")
                return result
            say(f"{name}: its result is gone, so it is made again")
        elif former and former["state"] == DONE:
            say(f"{name}: its inputs have changed, so it is made again")
        self._set(name, {"state": "running", "inputs": inputs_hash})
        began = time.monotonic()
        result = work()
        seconds = round(time.monotonic() - began, 1)
        self._set(name, {"state": DONE, "inputs": inputs_hash, "result": result, "seconds": seconds})
        say(f"{name}: done in {duration(seconds)}")
        return result

    def _set(self, name: str, step: dict[str, Any]) -> None:
        self.content["steps"][name] = step
        write_json(self.path, self.content)


def hash_of(inputs: Mapping[str, Any]) -> str:
    """Sha256 (hex) of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    Example:
        >>> duration(42.4), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
