import hashlib
import json
import os

import numpy as np
import pytest

from shared.errors import DataError, LeakError
from shared.folds import FOLDS
from shared.ledger import Ledger, check_foreign
from shared.splits import write_splits
from tests.fabricate.sample_index import make_index

FINAL, OTHER = "a" * 64, "b" * 64
FOLD = np.arange(5, dtype=np.int8)


def data(**changes):
    """Five groups of one sample, one a fold."""
    return make_index(range(5), **changes)


def finished_run(path, index, fold=FOLD, uses=(("fit", "train"), ("validate", "val")), test=False):
    """A run directory whose ledger is bound and has recorded `uses`."""
    path.mkdir()
    ledger = Ledger(path)
    ledger.bind(index, fold, write_splits(path / "splits.csv", index, fold))
    for purpose, name in uses:
        ledger.record(purpose, name, "fit")
    if test:
        ledger.open_test(FINAL)
    return path


def events(path):
    return [json.loads(line) for line in (path / "ledger.jsonl").read_text().splitlines()]


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.bind(data(), FOLD, "s" * 64)
    return ledger


def test_bind_writes_counts_and_a_hash_of_the_sorted_ids(tmp_path):
    index = make_index([0, 0, 1], ids=["b/ß.png", "a/1.png", "c"])
    Ledger(tmp_path).bind(index, np.array([0, 0, 1], dtype=np.int8), "s" * 64)
    (event,) = events(tmp_path)
    assert event["event"] == "bind"
    assert event["splits_hash"] == "s" * 64
    assert event["data_hash"] == index.data_hash()
    assert event["folds"]["train"] == {
        "n": 2,
        "groups": 1,
        "ids_sha256": hashlib.sha256("a/1.png\nb/ß.png\n".encode()).hexdigest(),
    }
    assert event["folds"]["test"] == {"n": 0, "groups": 0, "ids_sha256": hashlib.sha256(b"").hexdigest()}


def test_the_digest_table_is_sorted_and_carries_the_fold(tmp_path):
    index = data(files=["p", None, "q", "r", "s"])
    Ledger(tmp_path).bind(index, FOLD, "s" * 64)
    table = np.load(tmp_path / "ledger_digests.npy")
    assert (table.dtype, table.shape) == (np.uint8, (4, 17))
    expected = sorted(index.digest[row].tobytes() + bytes([row]) for row in (0, 2, 3, 4))
    assert [row.tobytes() for row in table] == expected
    assert events(tmp_path)[0]["without_digest"] == 1


def test_a_use_is_written_once_and_before_it_happens(ledger, tmp_path):
    for _ in range(3):
        ledger.record("fit", "train", "fit")
    ledger.record("fit", "train", "refit")
    Ledger(tmp_path).record("fit", "train", "fit")
    uses = [(event["purpose"], event["fold"], event["stage"]) for event in events(tmp_path)[1:]]
    assert uses == [("fit", "train", "fit"), ("fit", "train", "refit")]


def test_each_event_is_synced_to_disk(ledger, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    ledger.record("fit", "train", "fit")
    assert synced == [(ledger.run_dir / "ledger.jsonl").stat().st_size]


def test_a_fold_is_refused_for_what_it_may_not_serve(ledger, tmp_path):
    with pytest.raises(LeakError, match="fold 'test' may not be used for 'threshold'"):
        ledger.record("threshold", "test", "report")
    with pytest.raises(LeakError, match="fold 'val' may not be used for 'calibrate'"):
        ledger.record("calibrate", "val", "calibrate")
    assert len(events(tmp_path)) == 1


def test_nothing_is_recorded_before_bind(tmp_path):
    ledger = Ledger(tmp_path)
    with pytest.raises(LeakError, match="not bound to data and folds yet"):
        ledger.record("fit", "train", "fit")
    with pytest.raises(LeakError, match="not bound"):
        ledger.open_test(FINAL)


def test_test_opens_once_and_again_only_for_the_same_weights(ledger, tmp_path):
    with pytest.raises(LeakError, match=r"fold 'test' of run .* is closed"):
        ledger.record("test", "test", "test")
    ledger.open_test(FINAL)
    ledger.record("test", "test", "test")
    resumed = Ledger(tmp_path)
    resumed.open_test(FINAL)
    assert resumed.test_opened_for == FINAL
    with pytest.raises(LeakError, match="opened for the weights aaaaaaaaaaaa… and may not be opened again for bbbb"):
        resumed.open_test(OTHER)
    assert [event["event"] for event in events(tmp_path)] == ["bind", "open_test", "use"]


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_what_opens_test_must_be_a_hash(ledger, text):
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        ledger.open_test(text)


def test_a_resumed_run_must_bind_the_same(ledger, tmp_path):
    table = (tmp_path / "ledger_digests.npy").read_bytes()
    resumed = Ledger(tmp_path)
    resumed.bind(data(), FOLD, "s" * 64)
    assert len(events(tmp_path)) == 1
    for index, fold, splits_hash, differs in [
        (data(files=["p", "q", "r", "s", "t"]), FOLD, "s" * 64, r"\(data_hash, digests_sha256 differ\)"),
        (data(), FOLD[::-1].copy(), "s" * 64, r"\(folds, digests_sha256 differ\)"),
        (data(), FOLD, "t" * 64, r"\(splits_hash differ\)"),
    ]:
        with pytest.raises(LeakError, match=f"was bound to other data or folds before {differs}: resume it"):
            resumed.bind(index, fold, splits_hash)
    assert (tmp_path / "ledger_digests.npy").read_bytes() == table


def test_a_torn_last_line_is_dropped_wherever_it_was_cut(ledger, tmp_path):
    ledger.record("fit", "train", "fit")
    ledger.record("validate", "val", "fit")
    path = tmp_path / "ledger.jsonl"
    content = path.read_bytes()
    whole = content[: content[:-1].rfind(b"\n") + 1]
    for end in range(len(whole), len(content)):
        path.write_bytes(content[:end])
        resumed = Ledger(tmp_path)
        # A line that lacks nothing but its newline is whole.
        assert path.read_bytes() == (content if end == len(content) - 1 else whole)
        resumed.record("validate", "val", "fit")
        assert [event.get("fold") for event in events(tmp_path)] == [None, "train", "val"]
    path.write_bytes(whole + b"\0" * 40)  # what a power cut can leave
    Ledger(tmp_path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{", "[]", '{"no": 1}', ""])
def test_a_damaged_line_inside_is_an_error(ledger, tmp_path, line):
    path = tmp_path / "ledger.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(DataError, match=r"ledger\.jsonl line 1 is no ledger event"):
        Ledger(tmp_path)


def test_a_missing_run_directory_is_an_error(tmp_path):
    with pytest.raises(DataError, match="gone does not exist"):
        Ledger(tmp_path / "gone")


def child(tmp_path, parent):
    folder = tmp_path / "child"
    folder.mkdir(exist_ok=True)
    return Ledger(folder, parents=[parent])


def test_a_child_may_use_its_parents_folds_again(tmp_path):
    parent = finished_run(tmp_path / "parent", data(), test=True)
    ledger = child(tmp_path, parent)
    ledger.bind(data(), FOLD, "s" * 64)
    assert events(ledger.run_dir)[0]["parents"] == ["parent"]


# What changes from parent to child, and how the same samples are recognised.
RECOGNISED = {
    "sample": data(files=["1", "2", "3", "4", "5"]),
    "group": data(ids=["1", "2", "3", "4", "5"], files=["1", "2", "3", "4", "5"]),
    "content of": data(
        ids=["1", "2", "3", "4", "5"], group_names=["6", "7", "8", "9", "10"], files=data().ids.to_list()
    ),
}


@pytest.mark.parametrize("what", RECOGNISED)
def test_a_sample_that_was_trained_on_may_not_be_tested_on(tmp_path, what):
    parent = finished_run(tmp_path / "parent", data())
    swapped = np.array([4, 1, 2, 3, 0], dtype=np.int8)
    message = rf"^{what} '.*' served 'train' there and would serve 'test' here.* parent run parent \(1 such"
    with pytest.raises(LeakError, match=message):
        child(tmp_path, parent).bind(RECOGNISED[what], swapped, "s" * 64)
    assert not (tmp_path / "child" / "ledger.jsonl").exists()


def test_a_fold_that_the_parent_never_opened_is_free(tmp_path):
    swapped = np.array([0, 1, 2, 4, 3], dtype=np.int8)  # calibrate and test change places
    parent = finished_run(tmp_path / "parent", data())
    child(tmp_path, parent).bind(data(), swapped, "s" * 64)
    opened = finished_run(tmp_path / "opened", data(), test=True)
    with pytest.raises(LeakError, match=r"'g4/s4\.png' served 'test' there and would serve 'calibrate' here"):
        child(tmp_path, opened).bind(data(), swapped, "s" * 64)


def test_a_generated_parent_shares_names_but_no_sample_with_a_real_set(tmp_path):
    parent = finished_run(tmp_path / "parent", data())
    real = data(source="real", files=["1", "2", "3", "4", "5"])
    child(tmp_path, parent).bind(real, FOLD[::-1].copy(), "s" * 64)


def test_a_parent_whose_files_changed_is_refused(tmp_path):
    parent = finished_run(tmp_path / "parent", data())
    ledger = child(tmp_path, parent)
    splits, digests = parent / "splits.csv", parent / "ledger_digests.npy"
    kept = splits.read_text()
    splits.write_text(kept.replace("test", "train"))
    with pytest.raises(DataError, match=r"splits\.csv is missing or was changed after run parent was bound"):
        ledger.bind(data(), FOLD, "s" * 64)
    splits.write_text(kept)
    np.save(digests, np.zeros((5, 17), dtype=np.uint8))
    with pytest.raises(DataError, match=r"ledger_digests\.npy was changed"):
        ledger.bind(data(), FOLD, "s" * 64)
    digests.write_bytes(digests.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"ledger_digests\.npy is missing or damaged"):
        ledger.bind(data(), FOLD, "s" * 64)
    (parent / "ledger.jsonl").write_text('{"event": "other"}\n')
    with pytest.raises(DataError, match="no bind event"):
        ledger.bind(data(), FOLD, "s" * 64)
    (parent / "ledger.jsonl").unlink()
    with pytest.raises(DataError, match=r"parent has no ledger\.jsonl"):
        ledger.bind(data(), FOLD, "s" * 64)


def test_a_parent_that_is_still_written_is_read_and_left_alone(tmp_path):
    parent = finished_run(tmp_path / "parent", data())
    with (parent / "ledger.jsonl").open("a") as stream:
        stream.write('{"event": "us')
    content = (parent / "ledger.jsonl").read_bytes()
    child(tmp_path, parent).bind(data(), FOLD, "s" * 64)
    assert (parent / "ledger.jsonl").read_bytes() == content


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run", data())


@pytest.fixture
def run_without_digests(tmp_path):
    return finished_run(tmp_path / "bare", data(files=[None] * 5))


@pytest.mark.parametrize("fold", range(5))
def test_equal_content_is_foreign_to_no_fold_of_the_run(run, fold):
    files = ["x", "y", f"g{fold}/s{fold}.png"]
    index = make_index([0, 1, 2], ids=["1", "2", "3"], group_names=["a", "b", "c"], files=files)
    message = rf"sample '3' has the content of a sample in fold '{FOLDS[fold]}' of run run \(1 such"
    with pytest.raises(LeakError, match=message):
        check_foreign(index, run)
    check_foreign(index.take(np.array([0, 1])), run)


def test_the_very_data_set_is_refused_with_and_without_digests(run, run_without_digests):
    with pytest.raises(LeakError, match="the very data set that run run was trained on"):
        check_foreign(data(), run)
    with pytest.raises(LeakError, match="the very data set"):
        check_foreign(data(files=[None] * 5), run_without_digests)


def test_another_set_that_numbers_its_groups_alike_is_allowed(run):
    check_foreign(data(files=["1", "2", "3", "4", "5"]), run)


def test_names_decide_where_digests_are_missing(run, run_without_digests):
    part = np.array([1, 2])
    bare = data(files=[None] * 5).take(part)
    message = r"sample 'g1/s1\.png' of group 'g1' is in fold 'val' of run \w+ \(2 such sample\(s\), compared by name"
    for finished, index in [(run, bare), (run_without_digests, bare), (run_without_digests, data().take(part))]:
        with pytest.raises(LeakError, match=message):
            check_foreign(index, finished)
    # The same id in another group, or the same group with other ids, is another sample.
    check_foreign(data(files=[None] * 5, group_names=["5", "6", "7", "8", "9"]).take(part), run)
    check_foreign(data(files=[None] * 5, ids=["5", "6", "7", "8", "9"]).take(part), run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no ledger\.jsonl"):
        check_foreign(data(), tmp_path)
