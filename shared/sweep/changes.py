"""What has changed since a sweep's points were made, beside the code: the data, and the files of swept choices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from shared.sweep import contexts, data_seen
from shared.sweep.ledger import SweepLedger
from shared.sweep.objective import DATA_CHANGED

KEPT_OR_RERUN = "give hydra.sweeper.on_change=keep to let them count, or =rerun to run all points again"


@dataclass(frozen=True)
class Change:
    """How a sweep goes on after a change.

    Attributes:
        ledger: Of the sweep.
        code_hash: Of the code as it is now.
        on_change: "refuse", "rerun" or "keep".
        say: Told what was done.
    """

    ledger: SweepLedger
    code_hash: str
    on_change: str
    say: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Of the sweep."""
        return self.ledger.folder

    def enter_data(self, data: Mapping[str, Any]) -> None:
        """Compare the data's files with those that the points have read, and take up points that met other data.

        Args:
            data: The configuration's `data`, resolved.

        Raises:
            ConfigError: The files have changed, points are done, and `on_change` is "refuse".
        """
        views = self.ledger.points()
        done = sum(view.state == "done" for view in views)
        met = [view.id for view in views if view.final and DATA_CHANGED in (view.error or "")]
        has_changed = data_seen.have_files_changed(self.folder, self.ledger.generation, data)
        if has_changed and done and self.on_change == "refuse":
            raise ConfigError(
                f"the data's files (names, sizes or times) have changed since {done} points of the sweep {self.folder} "
                f"were done; {KEPT_OR_RERUN}"
            )
        if self.on_change == "rerun" and (met or (has_changed and done)):
            self._rerun("the data have changed")
        elif self.on_change == "keep":
            if has_changed:
                data_seen.leave(self.folder, "files", self.ledger.generation, data_seen.look(data))
                self.say("the data's files have changed: results of before count")
            if met:
                self.ledger.retry(met)
                self.say(f"{len(met)} points that had met other data are tried again; they are marked")

    def enter_choices(self, choices: Mapping[str, str]) -> None:
        """Compare what the swept choices of configuration groups compose to with what points were made with.

        Args:
            choices: Override -> hash of what it composes to.

        Raises:
            ConfigError: One has changed, points with it are done, and `on_change` is "refuse".
        """
        known = self._known_choices()
        views = self.ledger.points()
        used = {override for view in views if view.state == "done" for override in view.overrides}
        changed = [one for one, hash in choices.items() if one in known and hash not in known[one] and one in used]
        if changed:
            named = ", ".join(changed)
            if self.on_change == "refuse":
                raise ConfigError(
                    f"the configuration of {named} has changed since points of the sweep {self.folder} were done with "
                    f"it; {KEPT_OR_RERUN}"
                )
            if self.on_change == "rerun":
                self._rerun(f"the configuration of {named} has changed")
                known = {}
            else:
                self.say(f"the configuration of {named} has changed: results of the old one count")
        new = {one: hash for one, hash in choices.items() if hash not in known.get(one, ())}
        if new:
            data_seen.leave(self.folder, "choices", self.ledger.generation, {"choices": new})

    def _known_choices(self) -> dict[str, set[str]]:
        known: dict[str, set[str]] = {}
        for content in data_seen.seen(self.folder, "choices", self.ledger.generation):
            for override, hash in dict(content.get("choices") or {}).items():
                known.setdefault(override, set()).add(hash)
        return known

    def _rerun(self, why: str) -> None:
        contexts.begin_again(self.folder, self.code_hash)
        self.say(f"{why}: all points are run again")
