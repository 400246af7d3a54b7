"""The attribute heads: how often shape and colour are right, over the photos that have the label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.report.evaluation import Intervals, mean_by_group


def attribute_scores(
    logits: Mapping[str, NDArray[np.floating]],
    codes: Mapping[str, NDArray[np.int64]],
    names: Mapping[str, Sequence[str]],
    group: NDArray[np.int32],
    intervals: Intervals,
) -> dict[str, dict[str, Any]]:
    """Accuracy of each head, with the floor of always saying the value that is most common in these photos.

    Args:
        logits: Attribute -> (N, V).
        codes: Attribute -> (N,) true codes, -1 where a photo has no label.
        names: Attribute -> its V values.
        group: (N,) codes; what intervals count.
        intervals: Seed and draws.

    Returns:
        Attribute -> n, unlabelled, values, accuracy, most_common and its share; n alone where no photo has the label.

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
            hit = (values.argmax(axis=1) == true)[known].astype(np.float64)
            counts = np.bincount(true[known], minlength=len(names[attribute]))
            row |= {
                "values": int((counts > 0).sum()),
                "accuracy": intervals.of(*mean_by_group(hit, group[known])),
                "most_common": str(names[attribute][int(counts.argmax())]),
                "most_common_share": float(counts.max() / counts.sum()),
            }
        found[attribute] = row
    return found
