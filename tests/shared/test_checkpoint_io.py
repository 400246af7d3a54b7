import errno
import pickle

import pytest
import torch

from shared.atomic import replacing, write_json
from shared.checkpoint_io import AtomicCheckpointIO, find_fault, load_checkpoint, newest_intact
from shared.errors import CheckpointError
from shared.weights import weights_sha256


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.arange(4096.0), "epoch": 3}, path)
    return path


def test_what_was_saved_is_loaded_and_nothing_else_lies_about(checkpoint):
    loaded = load_checkpoint(checkpoint)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["weight"], torch.arange(4096.0))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 10, 5000])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be used: it is truncated"):
        load_checkpoint(checkpoint)


def test_one_flipped_byte_is_found(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0xFF  # in the tensor's bytes, which torch itself reads without a check
    checkpoint.write_bytes(content)
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 3
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(checkpoint)


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a checkpoint ran')",))


def test_a_checkpoint_with_code_is_refused_without_running_it(tmp_path):
    path = tmp_path / "trap.ckpt"
    torch.save({"x": Trap()}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match="something other than tensors"):
        load_checkpoint(path)


def test_the_newest_intact_one_is_taken_and_the_damaged_one_named(checkpoint, tmp_path):
    broken = tmp_path / "newer.ckpt"
    broken.write_bytes(checkpoint.read_bytes()[:900])
    path, passed_over = newest_intact([broken, checkpoint])
    assert path == checkpoint
    assert len(passed_over) == 1
    assert "newer.ckpt was passed over" in passed_over[0]
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        newest_intact([broken])


def test_a_missing_file_has_a_fault(tmp_path):
    assert find_fault(tmp_path / "none.ckpt") == "the file does not exist"


def test_a_full_disk_leaves_the_former_checkpoint_untouched(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left.*the one before it is untouched"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 4}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert len(list(checkpoint.parent.iterdir())) == 1


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def write_half():
        with replacing(tmp_path / "a.json") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_hash_sees_values_names_shapes_and_dtypes():
    states = [
        {"a": torch.zeros(4)},
        {"a": torch.ones(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.zeros(8, dtype=torch.bfloat16)},
    ]
    assert len({weights_sha256(state) for state in states}) == len(states)
    assert weights_sha256({"a": torch.arange(6.0).reshape(2, 3).T}) == weights_sha256(
        {"a": torch.arange(6.0).reshape(2, 3).T.contiguous()}
    )
