import pytest
import torch

from shared.crossover.files import load_metadata, load_state, save_state
from shared.errors import CheckpointError
from tests.shared.crossover.networks import Tied

REMEDY = "free disk space, then go on with resume=auto$"


def test_round_trip_with_tied_weights_and_odd_layouts(tmp_path):
    state = {**Tied().state_dict(), "t": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}
    save_state(tmp_path / "a" / "x.safetensors", state, {"source_epochs": {"t": 4}})
    found = load_state(tmp_path / "a" / "x.safetensors", state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert load_metadata(tmp_path / "a" / "x.safetensors") == {"source_epochs": {"t": 4}}


def test_truncated_missing_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"x.safetensors cannot be used: the file does not exist"):
        load_state(path)
    save_state(path, {"w": torch.zeros(100)}, {})
    whole = path.read_bytes()
    for content in (whole[:-7], whole[:5], b"", b"\xff" * 300):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"truncated or no safetensors file"):
            load_state(path)
        with pytest.raises(CheckpointError, match=r"x.safetensors cannot be used"):
            load_metadata(path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_state(path, {"w": torch.zeros(3), "v": torch.zeros(1)}, {})
    for other in ({"w": torch.zeros(4), "v": torch.zeros(1)}, {"w": torch.zeros(3)}, {"z": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="do not fit this network"):
            load_state(path, other)


def test_a_file_of_another_tool_has_no_metadata_of_ours(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match="have no entry 'crossover' in their metadata"):
        load_metadata(tmp_path / "y.safetensors")


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    import shared.crossover.files as files

    path = tmp_path / "x.safetensors"
    save_state(path, {"w": torch.zeros(2)}, {})
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(CheckpointError, match=r"x.safetensors cannot be written .*No space left.*; " + REMEDY):
        save_state(path, {"w": torch.ones(2)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
