import errno
import json
import math
import os

import pytest
import torch
from torch import nn

from shared import snapshots
from shared.errors import CheckpointError
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore
from shared.weights import weights_sha256

REMEDY = "free disk space, then go on with resume=auto$"


def parts(value: float, frozen: float = 0.0) -> dict[str, dict[str, torch.Tensor]]:
    return {"body": {"body.weight": torch.full((64, 64), value)}, "stem": {"stem.weight": torch.full((32,), frozen)}}


@pytest.fixture
def store(tmp_path):
    store = SnapshotStore(tmp_path / "snapshots")
    for epoch in range(3):
        store.write(epoch, 10 * epoch, parts(float(epoch)), {"val/loss": 1.0 - epoch / 10})
    return store


def files(store):
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file())


def test_what_was_written_is_read(store):
    store.write(12, 120, parts(12.0, 3.0), {"val/loss": math.nan, "train/loss": 0.5})
    assert store.epochs() == [0, 1, 2, 12]
    assert torch.equal(store.load(12, "body")["body.weight"], torch.full((64, 64), 12.0))
    found = store.metrics(12)
    assert math.isnan(found["val/loss"])
    assert found["train/loss"] == 0.5
    content = json.loads((store.folder / "e0012" / "metrics.json").read_text())
    assert content["metrics"]["val/loss"] is None
    assert (content["schema"], content["epoch"], content["step"]) == (1, 12, 120)
    assert content["groups"]["stem"]["sha256"] == weights_sha256(parts(12.0, 3.0)["stem"])
    with snapshots.safe_open(store.folder / "e0012" / "stem.safetensors", framework="pt") as stream:
        assert stream.metadata() == {"epoch": "12", "step": "120", "group": "stem"}


def test_an_unchanged_group_is_a_link_that_survives(store):
    first, second = (store.path(epoch) / "stem.safetensors" for epoch in (0, 1))
    assert first.stat().st_ino == second.stat().st_ino
    assert store.record(1)["groups"]["stem"]["same_as"] == 0
    assert store.record(1)["groups"]["stem"]["linked"] is True
    assert store.record(1)["groups"]["body"]["same_as"] is None
    one = sum(path.stat().st_size for path in store.path(0).iterdir())
    assert store.size_bytes() < 3 * one
    store.remove(0)
    assert store.epochs() == [1, 2]
    assert torch.equal(store.load(1, "stem")["stem.weight"], torch.zeros(32))


def test_without_links_the_file_is_copied_and_said(store, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store.write(3, 30, parts(3.0), {})
    assert store.record(3)["groups"]["stem"] | {"sha256": "", "bytes": 0} == {
        "sha256": "", "bytes": 0, "same_as": 2, "linked": False,
    }  # fmt: skip
    assert torch.equal(store.load(3, "stem")["stem.weight"], torch.zeros(32))


def test_a_shortened_file_is_not_linked_again(store):
    path = store.path(2) / "stem.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:20])
    store.write(3, 30, parts(3.0), {})
    assert store.record(3)["groups"]["stem"]["same_as"] is None
    assert torch.equal(store.load(3, "stem")["stem.weight"], torch.zeros(32))


def test_a_truncated_and_a_missing_file_are_named(store):
    path = store.path(1) / "body.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    sentence = r"e0001/body\.safetensors cannot be used: it has 100 bytes, \d+ were written"
    with pytest.raises(CheckpointError, match=sentence):
        store.load(1, "body")
    assert "it has 100 bytes" in store.fault(1)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"e0001/body\.safetensors cannot be used: it is missing"):
        store.load(1, "body")
    assert store.fault(0) is None


def test_a_flipped_byte_is_found(store):
    path = store.path(1) / "body.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="its tensors are not those that were written"):
        store.load(1, "body")


def test_a_broken_header_is_one_sentence(store):
    path = store.path(1) / "body.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(CheckpointError, match=r"body\.safetensors cannot be used: .*[Hh]eader"):
        store.load(1, "body")


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (
            nn.ModuleDict({"body": nn.Linear(64, 32, bias=False)}),
            r"body\.weight has shape \(64, 64\), \(32, 64\) is need",
        ),
        (nn.ModuleDict({"body": nn.Linear(64, 64)}), r"body\.bias is missing from it"),
        (nn.ModuleDict({"body": nn.ModuleDict({"a": nn.Linear(1, 1)})}), r"body\.a\.weight is missing from it"),
    ],
)
def test_another_architecture_is_refused(store, module, sentence):
    other = SnapshotStore(store.folder, ModuleGroups.of(module, {"body": ["body"]}))
    with pytest.raises(CheckpointError, match=rf"e0001/body\.safetensors does not fit this network: {sentence}"):
        other.load(1, "body")


def test_a_tensor_too_many_is_refused(store):
    with pytest.raises(CheckpointError, match=r"does not fit this network, which has no tensor body\.weight"):
        store.load(1, "body", expected={})


def test_unknown_epochs_and_groups_are_named(store):
    with pytest.raises(CheckpointError, match=r"there is no snapshot .*e0007; epochs with one: 0, 1, 2"):
        store.load(7, "body")
    with pytest.raises(CheckpointError, match=r"e0001 has no module group head; it has body, stem"):
        store.load(1, "head")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 99}'])
def test_a_strange_record_is_refused(store, content):
    (store.path(1) / "metrics.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"snapshot record .*e0001/metrics\.json"):
        store.metrics(1)


@pytest.mark.parametrize("fails_at", [1, 2, 3, 5])
def test_a_full_disk_is_one_sentence_and_leaves_the_others(store, monkeypatch, fails_at):
    before, calls = files(store), []
    fsync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"e0003 cannot be written .*No space left.*untouched; " + REMEDY):
        store.write(3, 30, parts(3.0, 9.0), {"val/loss": 1.0})
    assert files(store) == before
    assert not store.path(3).exists()
    assert all(store.fault(epoch) is None for epoch in store.epochs())


def test_a_writer_that_runs_out_of_space_half_way_leaves_nothing(store, monkeypatch):
    before = files(store)

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise snapshots.SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(snapshots, "save_file", half)
    with pytest.raises(CheckpointError, match=f"No space left.*{REMEDY}"):
        store.write(3, 30, parts(3.0, 9.0), {})
    assert files(store) == before


def test_a_mistake_in_the_code_is_not_called_a_full_disk(store):
    with pytest.raises(AttributeError):
        store.write(3, 30, {"body": {"x": None}}, {})
    assert not store.path(3).exists()


def test_a_kill_before_the_record_leaves_no_snapshot(store, monkeypatch):
    def kill(path, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "write_json", kill)
        patched.setattr(snapshots.shutil, "rmtree", lambda *args, **kwargs: None)  # the dead clean up nothing
        with pytest.raises(KeyboardInterrupt):
            store.write(3, 30, parts(3.0), {})
    (store.path(3) / ".body-x.safetensors").write_bytes(b"half")
    assert store.epochs() == [0, 1, 2]
    store.write(3, 30, parts(4.0), {})
    assert store.epochs() == [0, 1, 2, 3]
    assert sorted(path.name for path in store.path(3).iterdir()) == [
        "body.safetensors",
        "metrics.json",
        "stem.safetensors",
    ]
    assert float(store.load(3, "body")["body.weight"][0, 0]) == 4.0


def test_the_budget_takes_the_worst_and_spares_the_kept(store):
    store.write(3, 30, parts(3.0), {})
    one = (store.path(0) / "body.safetensors").stat().st_size
    loss = {0: 0.5, 1: 0.9, 2: math.nan, 3: 0.9}
    assert store.thin(2 * one + one // 2, keep={3}, loss=loss) == [2, 1]
    assert store.epochs() == [0, 3]
    assert store.thin(1, keep={3}, loss=loss) == [0]
    assert store.thin(1, keep={3}, loss=loss) == []
    assert store.epochs() == [3]
    assert torch.equal(store.load(3, "stem")["stem.weight"], torch.zeros(32))


def test_of_equally_bad_snapshots_the_earlier_goes(store):
    assert store.thin(store.size_bytes() - 1, keep=(), loss={0: 0.1, 1: 0.7, 2: 0.7}) == [1]


def test_strays_are_removed_complete_or_not(store):
    (store.folder / "e0009").mkdir()
    (store.folder / "notes").mkdir()
    assert store.remove_all_but([0, 2]) == [1, 9]
    assert store.epochs() == [0, 2]
    assert (store.folder / "notes").is_dir()


def test_an_empty_place_has_no_snapshots(tmp_path):
    store = SnapshotStore(tmp_path / "none")
    assert store.epochs() == []
    assert store.size_bytes() == 0
    assert store.remove_all_but([]) == []


def test_a_thinned_group_is_gone_and_no_fault(store):
    assert store.thin_group("body", {2}) == [0, 1]
    assert files(store)[:2] == ["e0000/metrics.json", "e0000/stem.safetensors"]
    assert store.epochs() == [0, 1, 2]
    assert [store.fault(epoch) for epoch in store.epochs()] == [None] * 3
    assert [store.has(epoch, "body") for epoch in store.epochs()] == [False, False, True]
    assert [store.is_whole(epoch) for epoch in store.epochs()] == [False, False, True]
    assert store.has(0, "stem")
    assert not store.has(0, "arm")
    assert store.metrics(0) == {"val/loss": 1.0}
    with pytest.raises(CheckpointError, match=r"e0001 no longer has the module group body: it was thinned out"):
        store.load(1, "body")
    (store.path(1) / "stem.safetensors").unlink()
    assert "stem.safetensors cannot be used: it is missing" in store.fault(1)


def test_killed_between_the_mark_and_the_file_it_is_thinned_all_the_same(store, monkeypatch):
    unlink = snapshots.Path.unlink
    with monkeypatch.context() as patched:
        patched.setattr(snapshots.Path, "unlink", lambda path, missing_ok=False: None)
        store.thin_group("body", {2})
    assert "e0000/body.safetensors" in files(store)
    assert not store.has(0, "body")
    assert snapshots.Path.unlink is unlink
    assert store.thin_group("body", {0, 2}) == [0, 1]  # what is marked does not come back
    assert [name for name in files(store) if "body" in name] == ["e0002/body.safetensors"]


def test_a_new_snapshot_is_no_link_to_a_thinned_file(store):
    store.thin_group("stem", set())
    store.write(3, 30, parts(3.0), {})
    assert store.record(3)["groups"]["stem"]["same_as"] is None
    assert torch.equal(store.load(3, "stem")["stem.weight"], torch.zeros(32))


def test_weights_keep_their_own_precision(tmp_path):
    module = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64)).to(torch.bfloat16)
    groups = ModuleGroups.of(module, {"net": ["0", "1"]})
    store = SnapshotStore(tmp_path / "snapshots", groups)
    store.write(0, 0, groups.split(module.state_dict()), {})
    found = store.load(0, "net")
    assert found["0.weight"].dtype == torch.bfloat16
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())
    numbers = sum(parameter.numel() for parameter in module.state_dict().values())
    size = store.record(0)["groups"]["net"]["bytes"]
    assert 2 * numbers <= size < 2 * numbers + 1000  # two bytes each, and the header
