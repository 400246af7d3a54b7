"""The index ledger of a run: which samples served for what, on disk before they serve.

`run_dir/ledger.jsonl` holds one event a line:

- `bind`: hash of the data, of `splits.csv` and of the digest table; per fold the number of samples and groups and the
  sha256 of its sorted ids, one a line (what `LC_ALL=C sort ids.txt | sha256sum` prints);
- `use`: (purpose, fold, stage), once each;
- `open_test`: sha256 of the final weights; they are fixed before the one pass that measures them and the rows beside
  them (the last epoch, the baselines).

The shortcut audit reads the train fold before the fit and is not an event of its own.

`run_dir/ledger_digests.npy` holds the content digests, which `splits.csv` does not: a uint8 array (M, 17), sorted,
16 bytes of digest and the fold code, 3.4 MB for 200,000 samples. A renamed file is found by it in a later run.

One process writes a ledger: on several ranks, rank zero. The others read it, and are refused the same uses.
"""

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.atomic import write_bytes
from shared.digests import match_digests
from shared.errors import DataError, LeakError
from shared.folds import FOLDS, require_purpose
from shared.past_run import (
    DIGESTS_FILE,
    LEDGER_FILE,
    PastRun,
    hash_digests,
    pack_digests,
    read_journal,
    write_digests,
)
from shared.sample_index import DIGEST_BYTES, SampleIndex
from shared.splits import check_fold_codes


class Ledger:
    """The ledger of one run; its scope is the run and its parents.

    Args:
        run_dir: Run directory, which exists; a ledger in it is continued, without a line that kill -9 left torn.
        parents: Run directories whose weights or choices this run builds on. A parent of a parent counts only when
            it is listed as well.
        read_only: Refuse what may not be, as always, and write nothing.

    Raises:
        DataError: The directory does not exist or its ledger was changed by hand.
    """

    def __init__(self, run_dir: Path, parents: Sequence[Path] = (), *, read_only: bool = False) -> None:
        if not run_dir.is_dir():
            raise DataError(f"run directory {run_dir} does not exist, so no ledger can be kept in it.")
        self.run_dir = run_dir
        self.parents = tuple(Path(parent) for parent in parents)
        self._read_only = read_only
        self._path = run_dir / LEDGER_FILE
        self._events: list[dict[str, Any]] = []
        if self._path.exists():
            self._events, torn = read_journal(self._path)
            if torn and not read_only:
                write_bytes(self._path, b"".join(_line(event) for event in self._events))

    @property
    def test_opened_for(self) -> str | None:
        """The sha256 of the final weights that the test fold was opened for, None while it is closed."""
        event = self._first("open_test")
        return None if event is None else str(event["final_sha256"])

    def bind(self, index: SampleIndex, fold: NDArray[np.int8], splits_hash: str) -> None:
        """Fix which samples are in which fold; a resumed run binds again and must bind the same.

        Args:
            index: N samples.
            fold: (N,) int8 fold codes.
            splits_hash: sha256 of `splits.csv`, as `write_splits` returns it.

        Raises:
            LeakError: The run was bound to something else before, or a sample, group or content that served a fold in
                a parent would serve another one here.
            DataError: A parent has no readable ledger, or the fold codes are not of this index.
        """
        check_fold_codes(index, fold)
        for parent in self.parents:
            _check_parent(index, fold, PastRun.read(parent))
        digests = pack_digests(index, fold)
        event = {
            "event": "bind",
            "splits_hash": splits_hash,
            "data_hash": index.data_hash(),
            "source": index.source,
            "folds": {name: _summary(index, np.flatnonzero(fold == code)) for code, name in enumerate(FOLDS)},
            "without_digest": int(len(index) - index.has_digest().sum()),
            "digests_sha256": hash_digests(digests),
        }
        bound = self._first("bind")
        if bound is None:
            # The table is on disk before the event that promises it.
            write_digests(self.run_dir / DIGESTS_FILE, digests)
            self._append(event | {"parents": [parent.name for parent in self.parents]})
            return
        changed = [key for key, value in event.items() if bound.get(key) != value]
        if changed:
            raise LeakError(
                f"run {self.run_dir.name} was bound to other data or folds before ({', '.join(changed)} differ): "
                "resume it with the data and splits.csv it began with, or start a new run."
            )

    def record(self, purpose: str, fold: str, stage: str) -> None:
        """Write down that a fold is about to serve a purpose; a repetition is not written again.

        Args:
            purpose: One of `PURPOSES[fold]`.
            fold: Fold name.
            stage: Part of the run that asks, e.g. "fit", "crossover".

        Raises:
            LeakError: The fold may not serve this purpose, the ledger is not bound, or test is not open yet.
        """
        require_purpose(fold, purpose)
        self._require_bound()
        if fold == "test" and self.test_opened_for is None:
            raise LeakError(
                f"fold 'test' of run {self.run_dir.name} is closed: it opens once, after the final weights are hashed "
                "(open_test)."
            )
        event = {"event": "use", "purpose": purpose, "fold": fold, "stage": stage}
        if not any(event.items() <= old.items() for old in self._events):
            self._append(event)

    def open_test(self, final_sha256: str) -> None:
        """Open the test fold for one set of final weights; again only for the same, in a resumed run.

        Args:
            final_sha256: sha256 (64 hex digits) of the final weights.

        Raises:
            LeakError: Test was opened for other weights before, or the ledger is not bound.
            ValueError: The hash is not a sha256 in hex.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", final_sha256):
            raise ValueError(f"final_sha256 must be 64 lower-case hex digits, found {final_sha256!r}.")
        self._require_bound()
        opened = self.test_opened_for
        if opened is None:
            self._append({"event": "open_test", "final_sha256": final_sha256})
        elif opened != final_sha256:
            raise LeakError(
                f"fold 'test' of run {self.run_dir.name} was opened for the weights {opened[:12]}… and may not be "
                f"opened again for {final_sha256[:12]}…: a second look would choose on test."
            )

    def _first(self, kind: str) -> dict[str, Any] | None:
        """Return the first event of a kind."""
        return next((event for event in self._events if event["event"] == kind), None)

    def _require_bound(self) -> None:
        """Refuse any use before it is known which samples the folds hold."""
        if self._first("bind") is None:
            raise LeakError(f"the ledger of run {self.run_dir.name} is not bound to data and folds yet: call bind.")

    def _append(self, event: dict[str, Any]) -> None:
        """Write one event and wait until it is on the disk."""
        event = event | {"t": time.time()}
        if not self._read_only:
            with self._path.open("ab") as stream:
                stream.write(_line(event))
                stream.flush()
                os.fsync(stream.fileno())
        self._events.append(event)


def check_foreign(index: SampleIndex, run_dir: Path) -> None:
    """Refuse to evaluate a finished run on samples that are in any of its folds, whether or not a fold was used.

    Equal content is a leak under any name. Where a digest is missing on either side, the same sample id in the same
    group counts as the same sample. Equal group names alone do not: another set numbers its batteries from 1 as well.

    Args:
        index: The data set that is to be evaluated.
        run_dir: Directory of the finished run.

    Raises:
        LeakError: Names one sample, its fold in the run and how many there are.
        DataError: The run has no readable ledger.
    """
    past = PastRun.read(run_dir)
    remedy = f"evaluate on samples that run {run_dir.name} never saw."
    if index.data_hash() == past.bound["data_hash"]:
        raise LeakError(f"this is the very data set that run {run_dir.name} was trained on; {remedy}")
    known = index.has_digest()
    match = match_digests(index.digest[known], past.digests[:, :DIGEST_BYTES])
    hits = np.flatnonzero(match >= 0)
    if len(hits):
        row = int(np.flatnonzero(known)[hits[0]])
        fold = FOLDS[past.digests[match[hits[0]], DIGEST_BYTES]]
        raise LeakError(
            f"sample {index.ids[row]!r} has the content of a sample in fold {fold!r} of run {run_dir.name} "
            f"({len(hits)} such sample(s)); {remedy}"
        )
    # One missing digest in the run leaves open whose it is, so then every sample is compared by name.
    unsure = np.arange(len(index)) if past.bound["without_digest"] else np.flatnonzero(~known)
    if len(unsure) == 0:
        return
    named = {index.ids[int(row)]: index.group_name(int(row)) for row in unsure}
    same = [(sample_id, fold) for sample_id, group, fold in past.samples() if named.get(sample_id) == group]
    if same:
        raise LeakError(
            f"sample {same[0][0]!r} of group {named[same[0][0]]!r} is in fold {same[0][1]!r} of run {run_dir.name} "
            f"({len(same)} such sample(s), compared by name for want of digests); {remedy}"
        )


def _check_parent(index: SampleIndex, fold: NDArray[np.int8], past: PastRun) -> None:
    """Refuse a sample, group or content that served one fold in the parent and would serve another here."""
    clashes: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def clash(what: str, name: str, then: str, now: int) -> None:
        clashes[what] += 1
        examples.setdefault(what, f"{name!r} served {then!r} there and would serve {FOLDS[now]!r} here")

    # A generated and a real set share no battery, whatever the names say; content is compared in any case.
    if past.bound["source"] == index.source:
        fold_of_id = dict(zip(index.ids, fold.tolist(), strict=True))
        names = index.group_names.to_list()
        fold_of_group = {names[group]: code for group, code in zip(index.group.tolist(), fold.tolist(), strict=True)}
        for sample_id, group, then in past.samples():
            if then not in past.used:
                continue
            for what, name, now in (
                ("sample", sample_id, fold_of_id.get(sample_id)),
                ("group", group, fold_of_group.get(group)),
            ):
                if now is not None and FOLDS[now] != then:
                    clash(what, name, then, now)
    served = past.digests[np.isin(past.digests[:, DIGEST_BYTES], [FOLDS.index(name) for name in past.used])]
    rows = np.flatnonzero(index.has_digest())
    match = match_digests(index.digest[rows], served[:, :DIGEST_BYTES])
    for row, found in zip(rows[match >= 0].tolist(), match[match >= 0].tolist(), strict=True):
        then = FOLDS[served[found, DIGEST_BYTES]]
        if FOLDS[fold[row]] != then:
            clash("content of", index.ids[row], then, int(fold[row]))
    if examples:
        what, example = next(iter(examples.items()))
        raise LeakError(
            f"{what} {example}, where 'there' is parent run {past.path.name} ({clashes[what]} such sample(s)); use "
            "the parent's splits.csv for this run too."
        )


def _summary(index: SampleIndex, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Count a fold and hash its ids, sorted bytewise, one a line."""
    sha = hashlib.sha256()
    for sample_id in sorted(index.ids.raw(row) for row in rows.tolist()):
        sha.update(sample_id + b"\n")
    return {"n": len(rows), "groups": len(np.unique(index.group[rows])), "ids_sha256": sha.hexdigest()}


def _line(event: dict[str, Any]) -> bytes:
    """Return an event as one line of JSON."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
