"""The shortcut audit, before the fit: how much of the label do metadata and cheap statistics give away?"""

from dataclasses import asdict

from shared.audit import audit_shortcuts, format_warning
from shared.errors import DataError
from shared.session import Session, progress_bars


def audit_data(session: Session) -> None:
    """Audit the train fold, warn by name of each shortcut, and stop where `audit.fail_above` says so.

    Raises:
        DataError: If a feature's interval lies above `audit.fail_above`.
    """
    config = session.settings.audit
    rows = session.run.done("audit")
    if rows is None:
        with progress_bars(session.console) as session.datamodule.progress:
            table = session.datamodule.audit_table()
            if table is None:
                session.say("audit: this data set has nothing to audit")
                return
            report_progress = session.datamodule.progress
            found = audit_shortcuts(
                table, permutations=config.permutations, warn_above=config.warn_above, seed=session.settings.seed,
                on_step=lambda done, total: report_progress("shortcut audit", done, total),
            )  # fmt: skip
        rows = {
            "rows": [asdict(row) for row in found],
            "sentences": [format_warning(r) for r in found if r.verdict == "shortcut"],
        }
        session.run.mark_done("audit", rows)
    for sentence in rows["sentences"]:
        session.warn(sentence)
    undecided = [row["feature"] for row in rows["rows"] if row["verdict"] == "undecided"]
    if undecided:
        unheeded = "" if config.fail_above is None else ", and audit.fail_above cannot be judged there"
        session.warn(f"the audit cannot judge {', '.join(undecided)}: too few groups for an interval{unheeded}")
    if config.fail_above is None:
        return
    worst = [row for row in rows["rows"] if row["lo"] is not None and row["lo"] - 0.5 > config.fail_above]
    if worst:
        names = ", ".join(f"{row['feature']} (AUROC {row['auroc']:.3f}, at least {row['lo']:.3f})" for row in worst)
        raise DataError(
            f"the shortcut audit stops the run: {names} predicts the label beyond audit.fail_above="
            f"{config.fail_above:g}; exclude it from the fit or raise audit.fail_above"
        )
