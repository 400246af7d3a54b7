"""The tables of one run, from what its directory holds; a table without anything to show is left out."""

from collections.abc import Callable
from typing import Any

from projects.redheart.models.sizes import TOTAL_TARGET
from projects.redheart.paper.ablation_table import ablation
from projects.redheart.paper.latex import ESTIMATE, INTERVALS, NUMBER, Cell, Column, Table
from projects.redheart.paper.reference import CLAIMS, NOT_COMPARABLE
from projects.redheart.paper.sources import Source
from shared.folds import FOLDS

FULL_SIZE = 0.1
"""A network within this share of the full size is set beside the reference's figures module by module."""


def tables_of(source: Source) -> list[Table]:
    """All tables that a run has the numbers for, in the order of the paper."""
    made = (build(source) for build in BUILDERS)
    return [table for table in made if table is not None and table.rows]


def data_set(source: Source) -> Table:
    """Stories and groups of each fold, and the share of each emotion in it."""
    folds = source.report["data"]["folds"]
    present = [fold for fold in FOLDS if fold in folds]
    classes = list(source.report.get("per_class", {})) or sorted(
        {name for counts in source.class_counts.values() for name in counts}
    )
    rows: list[list[Cell]] = [
        ["stories", *(folds[fold]["n"] for fold in present)],
        ["groups", *(folds[fold]["groups"] for fold in present)],
    ]
    for name in classes:
        shares: list[Cell] = []
        for fold in present:
            counts = source.class_counts.get(fold, {})
            total = sum(counts.values())
            shares.append(f"{counts.get(name, 0) / total:.1%}" if total else None)
        rows.append([name, *shares])
    columns = (Column("part"), *(Column(fold, NUMBER) for fold in present))
    return Table(
        "data_set", f"Data set ({source.labels.short}): size of each fold and share of each emotion.", columns, rows
    )


def quality(source: Source) -> Table | None:
    """What the quality step removed and what is missing."""
    found = source.quality
    if found is None:
        return None
    rows: list[list[Cell]] = [
        ["stories read", found["n_read"]],
        [f"near-duplicates removed (similarity from {found['threshold']} % on)", len(found["removed"])],
        ["stories kept", found["n_kept"]],
    ]
    if isinstance(found.get("truncated"), int):
        rows.append(["texts cut to the longest length allowed", found["truncated"]])
    missing = found.get("missing", {})
    rows += [[f"stories without {name}", count] for name, count in missing.items() if isinstance(count, int)]
    return Table("quality", "Quality of the data.", (Column("what"), Column("count", NUMBER)), rows)


def architecture(source: Source) -> Table:
    """Modules with their parameters and those of the full size; the difference where the network is of about that."""
    total = source.num_parameters
    full = abs(total / TOTAL_TARGET - 1) < FULL_SIZE
    rows: list[list[Cell]] = []
    for size in source.parameters:
        difference = f"{size.percent:+.2f} %" if full and size.percent is not None else None
        rows.append([size.group, size.module, size.actual, size.target, difference])
    rows.append(["all", "", total, TOTAL_TARGET, f"{total / TOTAL_TARGET - 1:+.2%}" if full else None])
    smaller = "" if full else " This run is of a smaller size with the same modules; the target is for orientation."
    caption = f"Parameters of each module, and the target of the full size.{smaller}"
    columns = (
        Column("group"), Column("module"), Column("parameters", NUMBER), Column("full size", NUMBER),
        Column("difference", NUMBER),
    )  # fmt: skip
    return Table("architecture", caption, columns, rows)


def results(source: Source) -> Table:
    """Every row of the report's table on the test fold."""
    metrics = ("accuracy", "f1_macro", "nll", "ece", "brier")
    columns = (Column("row"), *(Column(metric, ESTIMATE) for metric in metrics))
    models = [[row["name"], *(row["metrics"].get(metric) for metric in metrics)] for row in source.report["models"]]
    others = [
        [f"baseline: {row['name']}", *(row["metrics"].get(metric) for metric in metrics)]
        for row in source.report.get("baselines", [])
    ]
    caption = f"Emotion on the test fold, opened once; {source.labels.short}. {INTERVALS} Only final is calibrated."
    return Table("results", caption, columns, [*models, *others], wide=True)


def differences(source: Source) -> Table:
    """Each row minus the best single epoch, paired."""
    metrics = ("f1_macro", "nll")
    columns = (Column("row"), *(Column(f"{metric} difference", ESTIMATE, 4) for metric in metrics))
    rows: list[list[Cell]] = [
        [row["name"], *(row["diff_to_best_single"].get(metric) for metric in metrics)]
        for row in source.report["models"]
        if "diff_to_best_single" in row
    ]
    caption = f"Each row minus the best single epoch, paired on the same stories. {INTERVALS}"
    return Table("differences", caption, columns, rows)


def per_class(source: Source) -> Table:
    """F1, precision and recall of final for each emotion."""
    scores = ("f1", "precision", "recall")
    columns = (Column("emotion"), Column("n", NUMBER), *(Column(score, ESTIMATE) for score in scores))
    rows: list[list[Cell]] = [
        [name, found["support"], *(found[score] for score in scores)]
        for name, found in source.report.get("per_class", {}).items()
    ]
    caption = f"Final on each emotion of the test fold; {source.labels.short}. {INTERVALS}"
    return Table("per_class", caption, columns, rows, wide=True)


def tasks(source: Source) -> Table:
    """The scores of the other tasks, for each row of the table."""
    metrics = ("mae", "rmse", "r2", "spearman")
    columns = (Column("task"), Column("row"), Column("n", NUMBER), *(Column(metric, ESTIMATE) for metric in metrics))
    rows: list[list[Cell]] = [
        [task, row, found["n"], *(estimates.get(metric) for metric in metrics)]
        for task, found in source.report.get("tasks", {}).items()
        for row, estimates in found["rows"].items()
    ]
    caption = (
        f"Tasks with numbers in [0, 1] on the test fold, each the mean over the task's numbers; {source.labels.short}. "
        f"{INTERVALS}"
    )
    return Table("tasks", caption, columns, rows, wide=True)


def calibration(source: Source) -> Table | None:
    """Calibration of final before and after."""
    found = source.report.get("calibration")
    if found is None:
        return None
    scores = [score for score in ("ece", "classwise_ece", "adaptive_ece", "brier", "nll") if score in found["before"]]
    rows: list[list[Cell]] = [[score, found["before"][score], found["after"][score]] for score in scores]
    columns = (Column("score"), Column("before", ESTIMATE, 4), Column("after", ESTIMATE, 4))
    return Table("calibration", f"Calibration of final on the test fold: {found['method']}. {INTERVALS}", columns, rows)


def reference(source: Source) -> Table:
    """The reference's claims beside our rows, which are not comparable but in their order."""
    columns = (
        Column("reference row"), Column("reference test accuracy", NUMBER), Column("our row"),
        Column("our test accuracy", ESTIMATE), Column("our difference in macro-F1 to best single", ESTIMATE),
    )  # fmt: skip
    differences = {row["name"]: row.get("diff_to_best_single", {}) for row in source.report["models"]}
    ours = [(claim.name, claim.test_accuracy, claim.our_row) for claim in CLAIMS] + [(None, None, "final")]
    crossed = source.report.get("crossover")
    decision = "no crossover was tested" if crossed is None else f"crossover {crossed['decision']}"
    rows: list[list[Cell]] = [
        [
            name, accuracy, f"{row} ({decision})" if row == "final" else row, source.estimate(row, "accuracy"),
            differences.get(row, {}).get("f1_macro"),
        ]
        for name, accuracy, row in ours
    ]  # fmt: skip
    caption = f"{NOT_COMPARABLE} Final is what our acceptance test let through; the reference has no such row."
    return Table("reference", caption, columns, rows, wide=True)


def sweet_spots(source: Source) -> Table | None:
    """The epoch that each module group was taken from."""
    crossed = source.report.get("crossover")
    if crossed is None:
        return None
    decision, sources = crossed["decision"], crossed["sources"]
    rows: list[list[Cell]] = [[group, epoch] for group, epoch in sources.items()]
    caption = f"Epoch that each module group of the final network comes from; the crossover was {decision}."
    return Table("sweet_spots", caption, (Column("module group"), Column("epoch", NUMBER)), rows)


def sweep(source: Source) -> Table | None:
    """Scores of the learning rates that were tried."""
    if source.sweep is None:
        return None
    rows: list[list[Cell]] = []
    for point in source.sweep["points"]:
        last: dict[str, Any] = point["epochs"][-1] if point["epochs"] else {"train_loss": None, "val_loss": None}
        note = point["reason"] or point["status"]
        rows.append([f"{point['lr']:g}", point["score"], last["train_loss"], last["val_loss"], note])
    columns = (
        Column("rate"), Column("score", NUMBER, 4), Column("train loss", NUMBER, 4), Column("val loss", NUMBER, 4),
        Column("status"),
    )  # fmt: skip
    caption = "Sweep over learning rates: mean of the last three validation losses + 0.1 |train - val|; best first."
    return Table("sweep", caption, columns, rows)


def cost(source: Source) -> Table | None:
    """Time and memory, with the steps that memory did not suffice for."""
    found = source.report.get("cost")
    if found is None:
        return None
    rows: list[list[Cell]] = [
        ["wall time (s)", found["wall_s"]],
        ["samples a second in the fit", found["samples_per_s"]],
        ["peak memory of the main process (MB)", found["peak_rss_mb"]],
        ["peak memory of the accelerator (MB)", found["peak_gpu_mb"]],
        ["steps that ran out of memory and were done again in smaller parts", found["oom_events"]],
        ["epochs", len(source.epochs)],
    ]
    return Table("cost", "Time and memory of the run.", (Column("what"), Column("value", NUMBER, 1)), rows)


BUILDERS: tuple[Callable[[Source], Table | None], ...] = (
    data_set, quality, architecture, results, differences, per_class, tasks, calibration, sweet_spots, reference,
    ablation, sweep, cost,
)  # fmt: skip
"""In the order of the paper."""


def comparison(sources: list[Source]) -> Table:
    """The final rows of several runs under each other."""
    metrics = ("accuracy", "f1_macro", "nll", "ece")
    columns = (Column("run"), Column("data"), Column("labels"), *(Column(metric, ESTIMATE) for metric in metrics))
    rows: list[list[Cell]] = [
        [
            source.label, source.report["data"]["source"], source.labels.short,
            *(source.estimate("final", metric) for metric in metrics),
        ]
        for source in sources
    ]  # fmt: skip
    caption = f"The final row of each run, each on its own test fold: not paired. {INTERVALS}"
    return Table("comparison", caption, columns, rows, wide=True)
