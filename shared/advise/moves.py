"""What may be done about a finding: for each rule a list of moves, the most promising first.

A move is words and the overrides that carry it out, built from the run's own values; a key that the run's
configuration lacks makes no move. Whether a value is allowed is decided later, where the move is composed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.advise.compose import written
from shared.advise.records import Record
from shared.advise.rules import Finding

LOW_RATE, HIGH_RATE = 1e-5, 1e-2
"""Of Adam-like optimisers on networks from random weights: outside, a fit that learns nothing has its cause here."""
USUAL_RATE = 1e-3
MAX_DROPOUT = 0.5
_IDEAS = {
    "overfit": "a smaller or more constrained network (fewer channels, weights shared over known symmetries), or more "
    "and more varied training data",
    "underfit": "a larger network, if longer training gains but levels off: wider stages first, then deeper",
    "plateau": "an architecture with another bias than the present one: attention over the feature map where all is "
    "pooled early, convolutions where everything attends to everything; and a look at the samples with the largest "
    "loss, which may be mislabelled or lack what is asked for",
    "dead": "train once with shuffled labels: if the curves look the same, inputs and labels do not belong together",
    "dead_part": "a larger weight of this part in the loss, a learning rate of its own, or a direct path to it from "
    "the input; and a look whether its target can be told from the input at all",
}


@dataclass(frozen=True)
class Move:
    """One thing to try."""

    words: str
    overrides: tuple[str, ...]


def moves(finding: Finding, record: Record) -> list[Move]:
    """Moves for a finding, the most promising first; none where nothing in the configuration can be turned."""
    build = {
        "nan": _calmer, "diverged": _calmer, "lr_too_high": _steadier, "dead": _wake, "lr_too_low": _faster,
        "overfit": _regularise, "underfit": _longer, "plateau": _off_the_plateau,
    }.get(finding.rule)  # fmt: skip
    return [] if build is None else list(build(finding, record))


def ideas(finding: Finding) -> list[str]:
    """Sketches that no override can carry out: another architecture, another look at the data."""
    return [_IDEAS[finding.rule]] if finding.rule in _IDEAS else []


def _calmer(finding: Finding, record: Record) -> Iterator[Move]:
    yield from _usual(record)
    yield from _scaled(record, "optimizer.lr", 0.1, "a tenth of the learning rate")
    if _has(record, "trainer.gradient_clip_val") and record.value("trainer.gradient_clip_val") is None:
        rate = next(_scaled(record, "optimizer.lr", 0.3, ""), None)
        yield Move("clip gradients, with a third of the rate",
                   ("trainer.gradient_clip_val=1.0", *(rate.overrides if rate else ())))  # fmt: skip
    yield from _warm_up(record)


def _steadier(finding: Finding, record: Record) -> Iterator[Move]:
    yield from _usual(record)
    yield from _scaled(record, "optimizer.lr", 0.3, "a third of the learning rate")
    yield from _scaled(record, "optimizer.lr", 0.1, "a tenth of the learning rate")
    yield from _decaying(record)
    yield from _scaled(record, "data.batch_size", 2, "twice the batch, for calmer gradients")
    yield from _warm_up(record)


def _wake(finding: Finding, record: Record) -> Iterator[Move]:
    rate = _rate(record)
    if rate is not None and rate <= LOW_RATE:
        yield from _scaled(record, "optimizer.lr", 100, "a hundred times the learning rate, which is very low")
    else:
        yield from _scaled(record, "optimizer.lr", 0.1, "a tenth of the learning rate: too high a one looks the same")
        if rate is None or rate < HIGH_RATE:
            yield from _scaled(record, "optimizer.lr", 10, "ten times the learning rate")
    if _has(record, "trainer.limit_train_batches") and _has(record, "stages"):
        yield Move("can it learn four batches by heart? If not, the fault lies in data, loss or network",
                   ("trainer.limit_train_batches=4", "stages=[fit]"))  # fmt: skip


def _faster(finding: Finding, record: Record) -> Iterator[Move]:
    yield from _scaled(record, "optimizer.lr", 10, "ten times the learning rate")
    yield from _scaled(record, "optimizer.lr", 3, "three times the learning rate")


def _longer(finding: Finding, record: Record) -> Iterator[Move]:
    planned, taken = record.value("trainer.max_epochs"), record.curves.epochs[-1]
    if isinstance(planned, int) and taken < planned and record.value("callbacks.early_stopping.enabled"):
        yield from _scaled(record, "callbacks.early_stopping.patience", 3, "more patience: it was stopped early")
    else:
        yield from _scaled(record, "trainer.max_epochs", 2, "twice the epochs")
    yield from _scaled(record, "optimizer.lr", 2, "twice the learning rate, in the same time")
    yield from _scaled(record, "model.parameters.width", 2, "a network twice as wide")


def _regularise(finding: Finding, record: Record) -> Iterator[Move]:
    decay = next(_scaled(record, "optimizer.weight_decay", 3, "three times the weight decay"), None)
    dropout = next(_more_dropout(record), None)
    yield from _augmented(record)
    if decay:
        yield decay
    if dropout:
        yield dropout
    if decay and dropout:
        yield Move(f"both: {decay.words} and {dropout.words}", (*decay.overrides, *dropout.overrides))
    best = int(finding.numbers.get("best_epoch", 0))
    planned = record.value("trainer.max_epochs")
    if isinstance(planned, int) and 2 <= best < 0.8 * planned:
        yield Move(
            "stop where val was best, with the schedule fitted to it",
            (f"trainer.max_epochs={max(2, round(1.2 * best))}",),
        )
    yield from _scaled(record, "model.parameters.width", 0.5, "a network half as wide")


def _off_the_plateau(finding: Finding, record: Record) -> Iterator[Move]:
    if finding.numbers["train_gain_share"] > 0.06:  # it memorises on: the same cure as for overfitting
        yield from _regularise(finding, record)
    yield from _decaying(record)
    yield from _scaled(record, "optimizer.lr", 0.3, "a third of the learning rate, to settle lower")
    yield from _switched(record)
    yield from _scaled(record, "model.parameters.width", 2, "a network twice as wide")
    yield from _other_loss(record)
    yield from _other_models(record)


def _scaled(record: Record, key: str, factor: float, words: str) -> Iterator[Move]:
    """The value of a key times a factor; whole numbers stay whole."""
    value = record.value(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return
    new = max(1, round(value * factor)) if isinstance(value, int) else float(f"{value * factor:.2g}")
    if new != value:
        yield Move(f"{words} ({value:g} -> {new:g})", (f"{key}={written(new)}",))


def _usual(record: Record) -> Iterator[Move]:
    """Far above any rate that Adam-like optimisers take, a third less would still be far above."""
    rate = _rate(record)
    if rate is not None and rate > HIGH_RATE and "adam" in str(record.value("optimizer.name")):
        yield Move(f"a usual rate for this optimiser ({rate:g} -> {USUAL_RATE:g})", (f"optimizer.lr={USUAL_RATE:g}",))


def _more_dropout(record: Record) -> Iterator[Move]:
    for name in ("dropout", "head_dropout"):
        value = record.value(f"model.parameters.{name}")
        if isinstance(value, int | float) and not isinstance(value, bool) and value < MAX_DROPOUT:
            new = round(min(MAX_DROPOUT, value + 0.1), 3)
            yield Move(f"more dropout ({value:g} -> {new:g})", (f"model.parameters.{name}={written(new)}",))
            return


def _augmented(record: Record) -> Iterator[Move]:
    """Augmentations that are off and that a configuration can switch on."""
    symmetry = record.value("data.symmetry")
    wider = {"none": "rotation_180", "rotation_180": "diagonal"}.get(str(symmetry))
    if wider:
        yield Move(f"more symmetries as augmentation ({symmetry} -> {wider}); the run checks that the data have them",
                   (f"data.symmetry={wider}",))  # fmt: skip
    if record.value("data.augmentation.flip_probability") == 0:
        yield Move(
            "flips as augmentation, if a flipped sample keeps its label", ("data.augmentation.flip_probability=0.5",)
        )


def _switched(record: Record) -> Iterator[Move]:
    for key, words in (
        ("model.parameters.use_circular_padding", "circular padding, for samples that are periodic at their borders"),
        ("model.map_to_pm1", "inputs in [-1, 1] instead of [0, 1]"),
    ):
        if record.value(key) is False:
            yield Move(words, (f"{key}=true",))


def _decaying(record: Record) -> Iterator[Move]:
    if record.value("scheduler.name") in ("constant", "cosine_warm_restarts"):
        yield Move("one decay of the rate to zero over the whole run", ("scheduler=warmup_cosine",))


def _warm_up(record: Record) -> Iterator[Move]:
    value = record.value("scheduler.warmup")
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0.1:
        yield Move(f"a longer warm-up ({value:g} -> 0.15 of the run)", ("scheduler.warmup=0.15",))


def _other_loss(record: Record) -> Iterator[Move]:
    other = {"mse_pearson": "weighted_smooth", "weighted_smooth": "mse_pearson"}.get(str(record.value("model.loss")))
    if other and not record.value("model.loss_parameters"):
        yield Move(
            f"another loss ({record.value('model.loss')} -> {other}); compare by a metric, not by the loss",
            (f"model.loss={other}",),
        )
    gamma = record.value("model.focal_gamma")
    if isinstance(gamma, int | float) and gamma > 0:
        yield Move(f"cross-entropy, not the focal loss (gamma {gamma:g} -> 0); compare by a metric, not the loss",
                   ("model.focal_gamma=0.0",))  # fmt: skip


def _other_models(record: Record) -> Iterator[Move]:
    """The project's other networks, as files below conf/model."""
    from shared.entry import CONFIG_FOLDER

    used: Any = record.value("model.network")
    for path in sorted(Path(CONFIG_FOLDER, "model").glob(f"{record.project}_*.yaml")):
        if path.stem != f"{record.project}_{used}":
            yield Move(f"another network, {path.stem}", (f"model={path.stem}",))


def _rate(record: Record) -> float | None:
    value = record.value("optimizer.lr")
    return float(value) if isinstance(value, int | float) else None


def _has(record: Record, key: str) -> bool:
    missing = object()
    return record.value(key, missing) is not missing
