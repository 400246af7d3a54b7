"""Each method fitted on all samples and on all folds but one, so that a fold is judged by what never saw it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.calibrators.base import Calibrator, IdentityCalibrator, OneVsRestCalibrator, class_margins
from shared.calibrators.domain_temperature import MIN_GROUPS, DomainFit, DomainTemperatureCalibrator, fit_domains
from shared.calibrators.inputs import CalibrationPart
from shared.calibrators.isotonic import fit_isotonic
from shared.calibrators.platt import fit_platt
from shared.calibrators.temperature import TemperatureCalibrator, TemperatureFit, fit_temperatures

_ROWS_PER_BLOCK = 2000


@dataclass(frozen=True)
class Fitted:
    """One method's calibrators.

    Attributes:
        final: Fitted on all samples.
        folds: Fitted without fold 0, 1, ...
        warnings: What is unusual about `final`.
        domains: What each domain got, for the method that tells domains apart.
    """

    final: Calibrator
    folds: tuple[Calibrator, ...]
    warnings: tuple[str, ...] = ()
    domains: tuple[DomainFit, ...] = field(default=())


class CrossFit:
    """The folds of a part and the fits on them.

    Args:
        part: The samples.
        num_folds: Folds, each of whole groups; at most as many as there are groups.
        isotonic_min_per_class: Samples of each class below which isotonic abstains.
        seed: Of the folds.
    """

    def __init__(self, part: CalibrationPart, num_folds: int, isotonic_min_per_class: int, seed: int) -> None:
        self.part = part
        self.num_folds = min(num_folds, part.num_groups)
        self.fold = torch.from_numpy(deal_folds(part.target.numpy(), part.group.numpy(), self.num_folds, seed))
        self._isotonic_min = isotonic_min_per_class
        everything = torch.ones(len(part.target), dtype=torch.bool)
        self._parts = [everything, *(self.fold != fold for fold in range(self.num_folds))]
        self._fitters: dict[str, Callable[[], Fitted]] = {
            "identity": self._identity,
            "temperature": self._temperature,
            "domain_temperature": self._domain_temperature,
            "platt": lambda: self._packed(fit_platt(self._margins, part.target, self._parts)),
            "isotonic": lambda: self._packed(fit_isotonic(self._margins, part.target, self._parts)),
        }

    def abstains(self, method: str) -> str | None:
        """Why a method cannot be fitted on these samples, or None."""
        part = self.part
        if method == "domain_temperature":
            domains = [part.domain == code for code in range(len(part.domain_names))]
            counts = [len(torch.unique(part.group[rows])) for rows in domains]
            if sum(count > 0 for count in counts) < 2:
                return "fewer than two domains are known here"
            if max(counts) < MIN_GROUPS:
                return f"no domain has {MIN_GROUPS} groups (the largest has {max(counts)})"
        if method in ("platt", "isotonic"):
            count = torch.bincount(part.target, minlength=part.logits.shape[1])
            rarest, fewest = int(count.argmin()), int(count.min())
            needed = self._isotonic_min if method == "isotonic" else 1
            if fewest < needed:
                return f"class {rarest} has {fewest} samples, {needed} are needed"
        return None

    def fit(self, method: str) -> Fitted:
        """Fit a method that does not abstain."""
        return self._fitters[method]()

    def sample_nll(self, fitted: Fitted) -> NDArray[np.float64]:
        """-log p(target) of each sample (N,), by the calibrator that was fitted without its fold."""
        loss = torch.empty(len(self.part.target), dtype=torch.float64)
        for rows, scores in self._held_out_scores(fitted):
            stated = scores.gather(1, self.part.target[rows, None]).squeeze(1)
            loss[rows] = torch.logsumexp(scores, dim=1) - stated
        return loss.numpy()

    def held_out_probabilities(self, fitted: Fitted) -> NDArray[np.float64]:
        """Calibrated probabilities (N, C), each row by the calibrator that was fitted without its fold."""
        found = torch.empty_like(self.part.logits)
        for rows, scores in self._held_out_scores(fitted):
            found[rows] = torch.softmax(scores, dim=1)
        return found.numpy()

    def _held_out_scores(self, fitted: Fitted) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and their calibrated logits, in blocks that stay in the cache."""
        for fold, calibrator in enumerate(fitted.folds):
            for rows in torch.split(torch.nonzero(self.fold == fold).squeeze(1), _ROWS_PER_BLOCK):
                if isinstance(calibrator, OneVsRestCalibrator):
                    yield rows, calibrator.from_margins(self._margins[rows])
                else:
                    yield rows, calibrator(self.part.logits[rows], self.part.domain[rows])

    @cached_property
    def _margins(self) -> Tensor:
        return torch.cat([class_margins(rows) for rows in torch.split(self.part.logits, _ROWS_PER_BLOCK)])

    @cached_property
    def _temperatures(self) -> list[TemperatureFit]:
        counts = [len(torch.unique(self.part.group[mask])) for mask in self._parts]
        return fit_temperatures(self.part.logits, self.part.target, self._parts, counts)

    def _identity(self) -> Fitted:
        return Fitted(IdentityCalibrator(), tuple(IdentityCalibrator() for _ in range(self.num_folds)))

    def _temperature(self) -> Fitted:
        first = self._temperatures[0]
        packed = self._packed([TemperatureCalibrator(fit.temperature) for fit in self._temperatures])
        return Fitted(packed.final, packed.folds, (first.warning,) if first.warning else ())

    def _domain_temperature(self) -> Fitted:
        part = self.part
        by_domain = [
            fit_domains(part.logits, part.target, part.group, part.domain == code, self._parts, self._temperatures)
            for code in range(len(part.domain_names))
        ]
        fits = list(zip(*by_domain, strict=True))  # per part
        packed = self._packed(
            [
                DomainTemperatureCalibrator(common.temperature, [fit.temperature for fit in domains])
                for common, domains in zip(self._temperatures, fits, strict=True)
            ]
        )
        first = self._temperatures[0].warning
        named = zip(part.domain_names, fits[0], strict=True)
        told = [f"domain {name!r}: {fit.warning}; it uses the common T" for name, fit in named if fit.warning]
        return Fitted(packed.final, packed.folds, tuple([first] if first else []) + tuple(told), fits[0])

    @staticmethod
    def _packed(calibrators: Any) -> Fitted:
        """The calibrators of the parts, all samples first."""
        first, *folds = calibrators
        return Fitted(first, tuple(folds))


def deal_folds(target: NDArray[np.int64], group: NDArray[np.int64], num_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each sample (N,): whole groups, those of one most frequent class spread over the folds.

    Args:
        target: (N,) class indices.
        group: (N,) codes in [0, G).
        num_folds: At most G, so that no fold is empty.
        seed: Of the order of the groups.
    """
    num_groups, num_classes = int(group.max()) + 1, int(target.max()) + 1
    counts = np.bincount(group * num_classes + target, minlength=num_groups * num_classes)
    main_class = counts.reshape(num_groups, num_classes).argmax(axis=1)
    order = np.random.default_rng(seed).permutation(num_groups)
    order = order[np.argsort(main_class[order], kind="stable")]
    fold_of_group = np.empty(num_groups, dtype=np.int64)
    fold_of_group[order] = np.arange(num_groups) % num_folds
    return fold_of_group[group]
