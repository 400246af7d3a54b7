"""The attribute heads: how often shape and colour are right, over the photos that have the label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.report.evaluation import Intervals, mean_by_group


def attribute_scores(
    logits: Mapping[str, NDArray[np.floating]],
    codes: Mapping[str, NDArray[np.int64]],
    train_codes: Mapping[str, NDArray[np.int64]],
    names: Mapping[str, Sequence[str]],
    group: NDArray[np.int32],
    intervals: Intervals,
) -> dict[str, dict[str, Any]]:
    """Accuracy of each head, and the floor: always saying the value that is most common among the train photos.

    Args:
        logits: Attribute -> (N, V).
        codes: Attribute -> (N,) true codes, -1 where a photo has no label.
        train_codes: Attribute -> codes of the train photos, -1 likewise; equal counts are decided by the lower code.
        names: Attribute -> its V values.
        group: (N,) codes; what intervals count.
        intervals: Seed and draws.

    Returns:
        Attribute -> n, unlabelled, values, accuracy, and `most_common` with its accuracy on these photos (`floor`) and
        `head_minus_floor`, paired by group. Without the last three where no train photo has the label; n and unlabelled
        alone where no photo here has it.

    Raises:
        ValueError: If a head has another number of values than names, or photos than codes.
    """
    found: dict[str, dict[str, Any]] = {}
    for attribute, values in logits.items():
        true = codes[attribute]
        if values.shape != (len(true), len(names[attribute])):
            raise ValueError(
                f"head {attribute!r} gave {values.shape}; ({len(true)}, {len(names[attribute])}) is needed, one column "
                "for each value"
            )
        known = true >= 0
        row: dict[str, Any] = {"n": int(known.sum()), "unlabelled": int((~known).sum())}
        if known.any():
            true, said = true[known], values.argmax(axis=1)[known]
            ours, count = mean_by_group((said == true).astype(np.float64), group[known])
            row |= {"values": len(np.unique(true)), "accuracy": intervals.of(ours, count)}
            train = train_codes[attribute][train_codes[attribute] >= 0]
            if len(train):
                common = int(np.bincount(train).argmax())
                floor, _ = mean_by_group((true == common).astype(np.float64), group[known])
                row |= {
                    "most_common": str(names[attribute][common]),
                    "floor": intervals.of(floor, count),
                    "head_minus_floor": intervals.of_difference(ours, floor, count),
                }
        found[attribute] = row
    return found
