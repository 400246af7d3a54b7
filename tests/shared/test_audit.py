import doctest
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import shared.audit as audit
from shared.audit import AuditRow, AuditTable, audit_shortcuts, format_warning
from shared.errors import DataError


def fabricate(target_of, num_samples=1200, num_groups=60, seed=0, bundles=None):
    """Slices of cells (even groups) and modules (odd ones); `target_of(columns, rng)` makes the label."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(num_groups), rng.integers(0, num_groups, num_samples - num_groups)])
    columns = {
        "kind": group % 2,
        "axis": rng.integers(0, 3, num_samples),
        "scanner": rng.integers(0, 3, num_groups)[group],
        "brightness": rng.normal(size=num_samples),
        "file_bytes": np.where(rng.random(num_samples) < 0.1, np.nan, rng.normal(size=num_samples)),
        "voltage": rng.normal(size=num_groups)[group],
    }
    return AuditTable(
        features=columns,
        categorical=frozenset({"kind", "axis", "scanner"}),
        bundles=bundles or {},
        target=target_of(columns | {"group": group}, rng),
        stratum=group % 2,
        group=group + 1000,
    )


def noise(columns, rng):
    return rng.random(len(columns["group"])) < 0.4


def axis_trap(columns, rng):
    """A battery has the defect or has not; on axis 0 it cannot be seen, so those slices are called normal."""
    defective = rng.random(columns["group"].max() + 1) < 0.6
    return defective[columns["group"]] & (columns["axis"] != 0)


def by_name(rows):
    return {row.feature: row for row in rows}


def test_examples():
    assert doctest.testmod(audit).failed == 0


def test_planted_axis_is_found_and_named():
    def target_of(columns, rng):
        return rng.random(len(columns["axis"])) < np.array([0.02, 0.5, 0.5])[columns["axis"]]

    rows = by_name(audit_shortcuts(fabricate(target_of)))
    axis = rows["axis"]
    assert axis.p_value == 1 / 200
    assert axis.verdict == "shortcut"
    assert axis.lo < axis.auroc < axis.hi
    assert [name for name, row in rows.items() if row.verdict == "shortcut"] == ["axis"]
    assert "'axis'" in format_warning(axis)


def test_axis_trap_inside_batteries_is_found():
    rows = by_name(audit_shortcuts(fabricate(axis_trap)))
    assert (rows["axis"].p_value, rows["axis"].verdict) == (1 / 200, "shortcut")


def test_kind_is_no_shortcut_even_when_it_tells_the_label():
    def target_of(columns, rng):
        return rng.random(len(columns["kind"])) < np.where(columns["kind"] == 1, 0.9, 0.1)

    table = fabricate(target_of)
    known = by_name(audit_shortcuts(table, permutations=39))["kind"]
    assert (known.auroc, known.p_value, known.verdict) == (0.5, 1.0, "clear")
    # The same data without the stratum: what it would have said.
    blind = replace(table, stratum=np.zeros_like(table.stratum))
    assert by_name(audit_shortcuts(blind, permutations=39))["kind"].verdict == "shortcut"


def test_area_counts_pairs_of_one_kind_only():
    def target_of(columns, rng):
        # Rare in cells, common in modules, and told by the axis in modules alone: pairs across kinds look different.
        chance = np.where(columns["kind"] == 1, np.array([0.4, 0.9, 0.9])[columns["axis"]], 0.05)
        return rng.random(len(chance)) < chance

    table = fabricate(target_of)
    prepared = audit._Audit(table, num_folds=5, seed=0)
    score = prepared.probe("axis")
    areas, pairs = [], []
    for kind in (0, 1):
        mask = table.stratum == kind
        areas.append(roc_auc_score(table.target[mask], score[mask]))
        pairs.append(table.target[mask].sum() * (~table.target[mask]).sum())
    expected = np.average(areas, weights=pairs)
    assert roc_auc_score(table.target, score) != pytest.approx(expected, abs=0.02)
    assert prepared.auroc(score) == pytest.approx(expected)
    assert prepared.judge("axis", score, 1.0, 0.05).auroc == pytest.approx(expected)


@pytest.mark.parametrize("target_of", [noise, axis_trap])
def test_noise_is_clear_with_p_spread_evenly(target_of):
    p_values = {name: [] for name in ("brightness", "file_bytes", "scanner", "voltage")}
    verdicts = []
    for seed in range(15):
        table = fabricate(target_of, 400, 40, seed)
        table = replace(table, features={name: table.features[name] for name in p_values}, categorical={"scanner"})
        rows = by_name(audit_shortcuts(table, permutations=19, seed=seed))
        for name, values in p_values.items():
            values.append(rows[name].p_value)
            verdicts.append(rows[name].verdict)
    # 60 values on the grid 1/20 .. 20/20: mean 0.525, standard error 0.037; a fifth is at most 0.2, error 0.052.
    pooled = np.concatenate(list(p_values.values()))
    assert pooled.mean() == pytest.approx(0.525, abs=0.12)
    assert np.mean(pooled <= 0.2) == pytest.approx(0.2, abs=0.16)
    assert verdicts.count("clear") >= 54


def test_group_level_number_is_found_with_a_dozen_groups():
    def target_of(columns, rng):
        return columns["voltage"] > np.median(columns["voltage"])

    row = by_name(audit_shortcuts(fabricate(target_of, 400, 24)))["voltage"]
    assert row.auroc > 0.8
    assert row.p_value <= 0.05


def test_five_groups_are_undecided():
    rows = audit_shortcuts(fabricate(axis_trap, 300, 5, seed=1), permutations=19)
    assert {row.verdict for row in rows} == {"undecided"}
    assert all(row.lo is None for row in rows)
    assert "too few groups" in format_warning(rows[0])


def test_bundle_finds_what_is_spread_over_its_members():
    def target_of(columns, rng):
        total = columns["brightness"] + np.nan_to_num(columns["file_bytes"]) + (columns["axis"] == 1)
        return total + rng.normal(size=len(total)) > 1.0

    bundle = {"image statistics": ("brightness", "file_bytes"), "all": ("axis", "brightness", "file_bytes")}
    rows = audit_shortcuts(fabricate(target_of, bundles=bundle), permutations=39)
    assert [row.feature for row in rows[-2:]] == ["image statistics", "all"]
    found = by_name(rows)
    assert found["image statistics"].auroc > max(found["brightness"].auroc, found["file_bytes"].auroc)
    assert found["all"].auroc > found["image statistics"].auroc
    assert found["all"].verdict == "shortcut"


def test_missing_numbers_can_be_the_shortcut():
    def target_of(columns, rng):
        return np.isnan(columns["file_bytes"]) | (rng.random(len(columns["axis"])) < 0.1)

    assert by_name(audit_shortcuts(fabricate(target_of), permutations=19))["file_bytes"].verdict == "shortcut"


def test_seed_decides_everything():
    table = fabricate(axis_trap, 300, 30)
    first = audit_shortcuts(table, permutations=19, seed=4)
    assert audit_shortcuts(table, permutations=19, seed=4) == first
    assert audit_shortcuts(table, permutations=19, seed=5) != first


def test_threshold_decides_the_verdict():
    table = fabricate(axis_trap)
    rows = by_name(audit_shortcuts(table, permutations=19, warn_above=0.45))
    assert rows["axis"].verdict == "clear"
    assert rows["axis"].p_value == 1 / 20


def test_progress_is_told():
    told = []
    audit_shortcuts(fabricate(noise, 100, 10), permutations=3, on_step=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_warning_needs_something_to_warn_about():
    with pytest.raises(ValueError, match="verdict 'clear'"):
        format_warning(AuditRow("axis", 0.5, 0.4, 0.6, 0.7, "clear"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": np.zeros(7, bool)}, "target has 7 rows"),
        ({"target": np.zeros(100, int)}, "bool is needed"),
        ({"target": np.zeros(100, bool)}, "no stratum holds both"),
        ({"bundles": {"b": ("colour",)}}, r"\['colour'\] are no features"),
        ({"bundles": {"axis": ("axis",)}}, r"name of their own and a feature: \['axis'\]"),
        ({"bundles": {"b": ()}}, r"a feature: \['b'\]"),
        ({"features": {}, "categorical": frozenset()}, "no feature to audit"),
        ({"features": {"axis": np.array(["x"] * 100)}, "categorical": frozenset()}, "'axis' has dtype <U1"),
    ],
)
def test_table_is_checked(change, message):
    with pytest.raises(DataError, match=message):
        replace(fabricate(noise, 100, 10), **change)


def test_settings_are_checked():
    table = fabricate(noise, 100, 10)
    for settings in ({"permutations": 0}, {"num_folds": 1}, {"warn_above": 0.5}):
        with pytest.raises(ValueError, match="allowed are"):
            audit_shortcuts(table, **settings)
    with pytest.raises(DataError, match="at least 2 are needed, found 1"):
        audit_shortcuts(replace(table, group=np.zeros(100, int)), permutations=1)


@pytest.mark.slow
def test_audit_of_four_thousand_rows_is_quick():
    table = fabricate(axis_trap, 4000, 320)
    rng = np.random.default_rng(0)
    numbers = {f"number {k}": rng.normal(size=4000) for k in range(6)}
    bundles = {"metadata": ("kind", "axis", "scanner"), "image statistics": ("brightness", "file_bytes", *numbers)}
    table = replace(table, features=table.features | numbers, bundles=bundles)
    start = time.process_time()
    assert len(audit_shortcuts(table)) == 14
    assert time.process_time() - start < 10.0
