"""Stage 0, always: the index, the folds, the leak guard; nothing is fitted before they hold."""

from shared.leakage import check_leakage
from shared.session import Session, progress_bars
from shared.splits import check_folds, write_splits


def check_data(session: Session) -> None:
    """Build the index, check the folds, write splits.csv and bind the ledger to it.

    Raises:
        DataError: If files are missing or broken, or a class is absent from train.
        LeakError: If a battery, sample or file content stands in two folds, or a resumed run finds other data.
    """
    datamodule = session.datamodule
    with progress_bars(session.console) as datamodule.progress:
        index, fold = datamodule.index, datamodule.fold
    for sentence in check_folds(index, fold):
        session.warn(sentence)
    leakage = check_leakage(index, fold)
    for sentence in leakage.warnings:
        session.warn(sentence)
    splits_hash = write_splits(session.run.path / "splits.csv", index, fold)
    session.ledger.bind(index, fold, splits_hash)
    datamodule.ledger = session.ledger
    skipped, findings = datamodule.findings()
    for sentence in findings:
        session.warn(sentence)
    if skipped:
        session.warn(f"{len(skipped)} files were skipped, listed in the report; the first: {skipped[0]['reason']}")
    session.run.mark_done(
        "check",
        {
            "data": datamodule.describe() | {"skipped": skipped, "leakage": leakage.as_dict()},
            "data_hash": index.data_hash(),
            "splits_hash": splits_hash,
        },
    )
    folds = datamodule.describe()["folds"]
    sizes = ", ".join(f"{name} {size['n']} ({size['groups']})" for name, size in folds.items())
    session.say(f"data: {index.source}, samples (groups): {sizes}")
