"""Stage 0, always: the index, the folds, the leak guard; nothing is fitted before they hold."""

from shared.errors import DataError
from shared.folds import FOLDS
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
    _check_fit_classes(session)
    # Bound before it gets its name: a resumed run that finds other data must not lose the split it was made with.
    staged = session.run.path / "splits.new.csv"
    splits_hash = write_splits(staged, index, fold)
    session.ledger.bind(index, fold, splits_hash)
    staged.replace(session.run.path / "splits.csv")
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


def _check_fit_classes(session: Session) -> None:
    """Refuse a fit whose exclusions leave a class without a training sample, and warn of one gone from val."""
    datamodule = session.datamodule
    index = datamodule.index
    for fold in ("train", "val"):
        present = set(index.label[datamodule.rows(fold)].tolist())
        absent = [name for code, name in enumerate(index.classes) if code not in present]
        if absent and fold == "train":
            raise DataError(
                f"class {absent[0]!r} has no training sample left after the exclusions of the fit: undo them"
            )
        whole = set(index.label[datamodule.fold == FOLDS.index(fold)].tolist())
        for name in absent:
            if index.classes.index(name) in whole:
                session.warn(f"class {name!r} is absent from {fold} after the exclusions of the fit")
