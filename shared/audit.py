"""Shortcut audit: how much of the label do metadata and cheap image statistics give away, before anything is fitted?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.audit_probe import (
    CrossValidatedProbe,
    deal_folds,
    draw_shuffle,
    encode,
)
from shared.auroc import PooledAuroc, count_wins
from shared.errors import DataError
from shared.statistics import BoundedStatistic, estimate

DEFAULT_REMEDY = (
    "before trusting a score, match the classes on it or leave out of the fit the values that give the label away "
    "(for an axis: data.exclude_axes_from_fit)"
)


@dataclass(frozen=True)
class AuditTable:
    """What the audit looks at, one row per sample.

    Attributes:
        features: Name to (N,) values: codes or strings for categories (a missing value is one of them, for example -1),
            numbers otherwise, where NaN means missing.
        categorical: Names of the features that are categories.
        bundles: Name to the features that are judged together, for example "metadata".
        target: (N,) True where there is a defect, of whatever kind.
        stratum: (N,) what is known anyway and is no shortcut, for example cell or module. Pairs are formed within it.
        group: (N,) what is independent of one another, for example the battery.

    Raises:
        DataError: If columns differ in length, names do not match, a number is no number, or no stratum holds both a
            positive and a negative.
    """

    features: dict[str, NDArray[np.generic]]
    categorical: frozenset[str]
    bundles: dict[str, tuple[str, ...]]
    target: NDArray[np.bool_]
    stratum: NDArray[np.int64]
    group: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        lengths = {name: len(values) for name, values in self.features.items()}
        lengths |= {"stratum": len(self.stratum), "group": len(self.group)}
        wrong = {name: length for name, length in lengths.items() if length != len(self.target)}
        if wrong:
            raise DataError(f"audit table: target has {len(self.target)} rows, but these columns differ: {wrong}")
        self._check_names()
        if self.target.dtype != np.bool_:
            raise DataError(f"audit table: target has dtype {self.target.dtype}; bool is needed")
        for name in self.features.keys() - self.categorical:
            if self.features[name].dtype.kind not in "biuf":
                raise DataError(
                    f"audit table: feature {name!r} has dtype {self.features[name].dtype}; "
                    "numbers are needed, or its name in `categorical`"
                )
        mixed = set(self.stratum[self.target].tolist()) & set(self.stratum[~self.target].tolist())
        if not mixed:
            raise DataError(
                "audit table: no stratum holds both a positive and a negative, so there is nothing to predict"
            )

    def _check_names(self) -> None:
        if not self.features:
            raise DataError("audit table: there is no feature to audit")
        unknown = {name for names in self.bundles.values() for name in names} | self.categorical
        unknown -= self.features.keys()
        if unknown:
            raise DataError(f"audit table: {sorted(unknown)} are no features; known are {sorted(self.features)}")
        twice = self.features.keys() & self.bundles.keys()
        empty = [name for name, names in self.bundles.items() if not names]
        if twice or empty:
            raise DataError(f"audit table: bundles need a name of their own and a feature: {sorted(twice) + empty}")


@dataclass(frozen=True)
class AuditRow:
    """What one feature or bundle gives away.

    Attributes:
        feature: Its name.
        auroc: Of a probe that sees only it, on groups not seen in its fit, within strata; 0.5 is nothing.
        lo: Lower end of the 95 % interval by group, None without one.
        hi: Upper end.
        p_value: Share of permutations that do as well, (1 + b) / (B + 1).
        verdict: "shortcut", "clear", or "undecided" where there is no interval.
    """

    feature: str
    auroc: float
    lo: float | None
    hi: float | None
    p_value: float
    verdict: str


def audit_shortcuts(
    table: AuditTable,
    *,
    permutations: int = 199,
    num_folds: int = 5,
    warn_above: float = 0.05,
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> list[AuditRow]:
    """Judge every feature and every bundle by how well it alone predicts the target within strata.

    A ridge probe on one-hot bins is fitted within each stratum on all folds of groups but one and predicts that one.
    Its AUROC counts pairs of the same stratum only. Each permutation refits the probe on permuted features: those that
    vary within groups are shuffled within each group, so that p tells of the relation inside groups; those that belong
    to the group are shuffled across the groups of a stratum. The verdict rests on the interval, since with many samples
    the smallest relation has a small p. The interval takes the probe's predictions as given; with a dozen groups
    it is a little too short.

    Args:
        table: Features, target, strata and groups.
        permutations: B; the smallest p is 1 / (B + 1).
        num_folds: Folds of the cross-validation; as many as there are groups if those are fewer.
        warn_above: A shortcut is called when the interval's lower end lies more than this above 0.5.
        seed: Of folds, permutations and intervals.
        on_step: Called with (permutations done, permutations) for a progress bar.

    Returns:
        One row per feature, then one per bundle, in the table's order.

    Raises:
        ValueError: If a setting is out of range.
        DataError: If there are fewer than two groups.

    Source: Ojala and Garriga, "Permutation Tests for Studying Classifier Performance", JMLR 11 (2010), definition 1
    and equation 1; there labels are permuted freely, here features within what must stay equal.
    """
    if permutations < 1 or num_folds < 2 or not 0.0 <= warn_above < 0.5:
        raise ValueError(
            f"permutations={permutations}, num_folds={num_folds}, warn_above={warn_above}; "
            "allowed are at least 1, at least 2, and 0 to 0.5"
        )
    audit = _Audit(table, num_folds, seed)
    observed = {name: audit.probe(name) for name in audit.rows}
    areas = {name: audit.auroc(score) for name, score in observed.items()}
    as_good = dict.fromkeys(audit.rows, 0)
    for step in range(permutations):
        permuted = audit.permuted_codes()
        for name in audit.rows:
            as_good[name] += audit.auroc(audit.probe(name, permuted)) >= areas[name]
        if on_step is not None:
            on_step(step + 1, permutations)
    return [
        audit.judge(name, observed[name], (1 + as_good[name]) / (permutations + 1), warn_above) for name in audit.rows
    ]


def format_warning(row: AuditRow, remedy: str = DEFAULT_REMEDY) -> str:
    """One sentence for a row that is not clear: what was found, how sure it is, what to do.

    Args:
        row: A row with verdict "shortcut" or "undecided".
        remedy: What to do about a shortcut, as the end of a sentence.

    Raises:
        ValueError: If the row is clear.

    Example:
        >>> format_warning(AuditRow("axis", 0.81, 0.78, 0.84, 0.005, "shortcut"), remedy="leave out axis x")
        "'axis' alone predicts the label at AUROC 0.810 [0.780, 0.840], p = 0.005: leave out axis x."
    """
    if row.verdict == "shortcut":
        return (
            f"'{row.feature}' alone predicts the label at AUROC {row.auroc:.3f} [{row.lo:.3f}, {row.hi:.3f}], "
            f"p = {row.p_value:.3g}: {remedy}."
        )
    if row.verdict == "undecided":
        return (
            f"'{row.feature}' alone predicts the label at AUROC {row.auroc:.3f}, p = {row.p_value:.3g}, "
            "without an interval: there are too few groups to tell a shortcut from chance, "
            "so collect more or inspect the feature by hand."
        )
    raise ValueError(f"'{row.feature}' has verdict {row.verdict!r}; there is nothing to warn about")


class _Audit:
    """The table in codes, with the folds, the probe and the random state that all rows share."""

    def __init__(self, table: AuditTable, num_folds: int, seed: int) -> None:
        groups, self._group = np.unique(table.group, return_inverse=True)
        if len(groups) < 2:
            raise DataError("audit table: the probe is tested on unseen groups, so at least 2 are needed, found 1")
        self._num_groups, self._seed, self._target = len(groups), seed, table.target
        strata, self._stratum = np.unique(table.stratum, return_inverse=True)
        cells, self._cell = np.unique(self._stratum * len(groups) + self._group, return_inverse=True)
        self._cell_stratum = cells // len(groups)
        self._rng = np.random.default_rng(seed)
        num_folds = min(num_folds, len(groups))
        fold = deal_folds(table.target, self._stratum, self._group, num_folds, self._rng)
        self._probe = CrossValidatedProbe(table.target, self._stratum, fold, num_folds)
        self._sides = [
            (np.flatnonzero(table.target & (self._stratum == s)), np.flatnonzero(~table.target & (self._stratum == s)))
            for s in range(len(strata))
        ]
        self._num_pairs = sum(len(positive) * len(negative) for positive, negative in self._sides)
        self._features = {
            name: encode(values, name in table.categorical, self._cell, self._cell_stratum)
            for name, values in table.features.items()
        }
        self.rows: dict[str, tuple[str, ...]] = {name: (name,) for name in table.features} | table.bundles

    def permuted_codes(self) -> dict[str, NDArray[np.int64]]:
        """Every feature's codes under the next permutation."""
        shuffle = draw_shuffle(self._rng, self._cell, self._cell_stratum)
        return {name: feature.permuted(shuffle, self._cell) for name, feature in self._features.items()}

    def probe(self, name: str, codes: dict[str, NDArray[np.int64]] | None = None) -> NDArray[np.float64]:
        """Out-of-fold scores of one row of the audit, on the observed codes or on the given ones."""
        members = [self._features[member] for member in self.rows[name]]
        seen = [m.codes for m in members] if codes is None else [codes[member] for member in self.rows[name]]
        return self._probe.scores(seen, [member.num_bins for member in members])

    def auroc(self, score: NDArray[np.float64]) -> float:
        """AUROC of scores (N,) within strata, pooled by pairs."""
        wins = sum(count_wins(score[positive], score[negative]) for positive, negative in self._sides)
        return wins / self._num_pairs

    def judge(self, name: str, score: NDArray[np.float64], p_value: float, warn_above: float) -> AuditRow:
        """The finished row: interval by group and verdict."""
        area = PooledAuroc(score, self._target, self._group, self._num_groups, self._stratum)
        found = estimate(BoundedStatistic(area, 0.0, 1.0), self._num_groups, seed=self._seed)
        return AuditRow(name, found.value, found.lo, found.hi, p_value, _verdict(found.lo, warn_above))


def _verdict(lo: float | None, warn_above: float) -> str:
    if lo is None:
        return "undecided"
    return "shortcut" if lo - 0.5 > warn_above else "clear"
