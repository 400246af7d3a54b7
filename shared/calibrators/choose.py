"""Which calibrator, if any: by negative log-likelihood on groups that its fit did not see, the simplest that gains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.calibrators.base import Calibrator
from shared.calibrators.cross_fit import CrossFit, Fitted
from shared.calibrators.inputs import check_part, too_few_groups

METHODS = ("identity", "temperature", "domain_temperature", "platt", "isotonic")
"""From the simplest to the most flexible: a later one must beat the earlier ones, not only equal them."""


@dataclass(frozen=True)
class Choice:
    """The calibrator to use and why.

    Attributes:
        calibrator: Fitted on all samples.
        method: Its name, one of `METHODS`.
        reason: One sentence.
        temperature: The (common) T of a temperature method, None for others.
        cv: Method -> mean NLL over groups on held-out folds, gain over identity, its standard error.
        abstained: Method -> why it was not tried.
        per_group: Domain name -> samples, groups, temperature in use, own temperature and its weight, mean NLL before
            and after on held-out folds.
        warnings: Sentences about the calibrator chosen and the logits it was chosen on.
        num_samples: N.
        num_groups: G.
        held_out: (N, C) calibrated probabilities, each fold's by a fit without it; None where nothing was fitted.
    """

    calibrator: Calibrator
    method: str
    reason: str
    temperature: float | None
    cv: dict[str, dict[str, float]]
    abstained: dict[str, str]
    per_group: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    num_samples: int
    num_groups: int
    held_out: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """What `calibration.json` says of the choice."""
        return {
            "method": self.method,
            "reason": self.reason,
            "temperature": self.temperature,
            "n": self.num_samples,
            "groups": self.num_groups,
            "cv": self.cv,
            "abstained": self.abstained,
            "per_group": self.per_group,
            "warnings": list(self.warnings),
        }


def choose_calibrator(
    logits: Tensor,
    target: Tensor,
    group: NDArray[np.integer],
    domain: NDArray[np.integer] | None = None,
    domain_names: Sequence[str] = (),
    *,
    methods: Sequence[str] = METHODS,
    folds: int = 5,
    isotonic_min_per_class: int = 50,
    seed: int = 0,
) -> Choice:
    """Fit each method, try it on groups not seen in its fit, and take the simplest that nothing beats.

    The NLL of a method is averaged within groups, then over groups. Going through `methods` in the order of `METHODS`,
    one takes the place of what was chosen so far only if it lowers the NLL by more than one standard error of the
    paired group differences, against that and against identity. With one class only or fewer than 6 groups nothing is
    fitted: identity, and the reason says so.

    Args:
        logits: (N, C).
        target: (N,) class indices.
        group: (N,) codes of what is independent of one another.
        domain: (N,) codes into `domain_names`, -1 where unknown; None: all unknown.
        domain_names: Names of the domains.
        methods: Those to try; identity is always among them.
        folds: Folds of whole groups.
        isotonic_min_per_class: Samples of each class below which isotonic abstains.
        seed: Of the folds.

    Raises:
        ValueError: If a setting is out of range or shapes do not fit.
        DataError: If logits are not finite or are probabilities, or codes are out of range.
    """
    check_settings(methods, folds, isotonic_min_per_class)
    part = check_part(logits, target, group, domain, domain_names)
    cross = CrossFit(part, max(folds, 2), isotonic_min_per_class, seed)
    too_few = too_few_groups(part.num_groups)
    if too_few is not None:
        return _nothing_fitted(cross, too_few)
    present = torch.unique(part.target)
    if len(present) < 2:
        return _nothing_fitted(cross, f"all {len(part.target)} samples are of class {int(present[0])}")
    search = _Search(cross)
    for method in METHODS:
        if method == "identity" or method in methods:
            search.consider(method)
    return search.choice()


def check_settings(methods: Sequence[str], folds: int, isotonic_min_per_class: int) -> None:
    """Refuse settings that no choice can be made with.

    Raises:
        ValueError: With the value and what is allowed.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"methods {unknown} do not exist; allowed are {', '.join(METHODS)}")
    if folds < 2:
        raise ValueError(f"folds is {folds}; at least 2 are needed")
    if isotonic_min_per_class < 1:
        raise ValueError(f"isotonic_min_per_class is {isotonic_min_per_class}; at least 1 is needed")


class _Search:
    """What has been tried so far, and what stands."""

    def __init__(self, cross: CrossFit) -> None:
        self._cross = cross
        self._fitted: dict[str, Fitted] = {}
        self._sample_nll: dict[str, NDArray[np.float64]] = {}
        self._group_nll: dict[str, NDArray[np.float64]] = {}
        self._abstained: dict[str, str] = {}
        self._standing = "identity"

    def consider(self, method: str) -> None:
        """Fit a method and let it take over if it gains more than one standard error."""
        reason = self._cross.abstains(method)
        if reason is not None:
            self._abstained[method] = reason
            return
        part = self._cross.part
        self._fitted[method] = self._cross.fit(method)
        loss = self._cross.sample_nll(self._fitted[method])
        group = part.group.numpy()
        self._sample_nll[method] = loss
        self._group_nll[method] = np.bincount(group, loss) / np.bincount(group)
        rivals = {"identity", self._standing} - {method}
        if rivals and all(gain > error for gain, error in (self._gain(method, rival) for rival in rivals)):
            self._standing = method

    def choice(self) -> Choice:
        """What stands after all methods."""
        part, fitted = self._cross.part, self._fitted[self._standing]
        common = getattr(fitted.final, "temperature", None)
        return Choice(
            calibrator=fitted.final,
            method=self._standing,
            reason=self._reason(),
            temperature=None if common is None else float(common),
            cv={method: self._row(method) for method in self._fitted},
            abstained=self._abstained,
            per_group=self._domains(),
            warnings=(*part.warnings, *fitted.warnings),
            num_samples=len(part.target),
            num_groups=part.num_groups,
            held_out=self._cross.held_out_probabilities(fitted),
        )

    def _gain(self, method: str, rival: str) -> tuple[float, float]:
        """Mean over groups of how much lower the NLL is, and the standard error of that mean."""
        difference = self._group_nll[rival] - self._group_nll[method]
        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))

    def _row(self, method: str) -> dict[str, float]:
        gain, error = self._gain(method, "identity")
        return {"nll": float(self._group_nll[method].mean()), "gain": gain, "se": error}

    def _reason(self) -> str:
        where = f"the mean NLL over {self._cross.part.num_groups} groups held out of its fit"
        if self._standing != "identity":
            row = self._row(self._standing)
            return f"{self._standing} lowers {where} by {row['gain']:.3g} (standard error {row['se']:.2g})"
        tried = [method for method in self._fitted if method != "identity"]
        if not tried:
            return "no other method was tried"
        best = max(tried, key=lambda method: self._gain(method, "identity")[0])
        row = self._row(best)
        return (
            f"no method lowers {where} by more than one standard error; "
            f"the best, {best}, changes it by {-row['gain']:.3g} (standard error {row['se']:.2g})"
        )

    def _domains(self) -> dict[str, dict[str, Any]]:
        """What each domain got and what it brought there."""
        part, fits = self._cross.part, self._fitted.get("domain_temperature")
        found: dict[str, dict[str, Any]] = {}
        for code, name in enumerate(part.domain_names):
            rows = (part.domain == code).numpy()
            if not rows.any():
                continue
            row: dict[str, Any] = {
                "n": int(rows.sum()),
                "groups": len(torch.unique(part.group[torch.from_numpy(rows)])),
            }
            if fits is not None and self._standing == "domain_temperature":
                fit = fits.domains[code]
                row |= {"temperature": fit.temperature, "own_temperature": fit.own, "weight": fit.weight}
            row["nll_before"] = float(self._sample_nll["identity"][rows].mean())
            row["nll_after"] = float(self._sample_nll[self._standing][rows].mean())
            found[name] = row
        return found


def _nothing_fitted(cross: CrossFit, why: str) -> Choice:
    identity = cross.fit("identity")
    return Choice(
        calibrator=identity.final,
        method="identity",
        reason=f"nothing can be fitted: {why}",
        temperature=None,
        cv={},
        abstained={},
        per_group={},
        warnings=cross.part.warnings,
        num_samples=len(cross.part.target),
        num_groups=cross.part.num_groups,
    )
