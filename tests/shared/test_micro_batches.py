import weakref

import pytest
import torch
from torch import nn

from shared import micro_batches
from shared.errors import ConfigError, TrainingError
from shared.micro_batches import MicroBatches, Remedy, has_room, is_out_of_memory, pieces, refuse_batch_statistics

BATCH = {
    "x": torch.arange(5.0),
    "deep": {"y": torch.arange(10).reshape(5, 2)},
    "name": "all",
    "constant": torch.ones(3),
}


@pytest.fixture(autouse=True)
def factories_are_known():
    """Torch remembers its factories when a device context is first used; none may be one that a test has replaced."""
    with torch.device("meta"):
        torch.empty(0)


def test_pieces_cut_nested_tensors_and_leave_the_rest() -> None:
    cut = list(pieces(BATCH, rows=5, size=2))
    assert [piece["x"].tolist() for piece in cut] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([piece["deep"]["y"] for piece in cut]), BATCH["deep"]["y"])
    assert all(piece["name"] == "all" and len(piece["constant"]) == 3 for piece in cut)


def run(micro: MicroBatches, failures: set[int], draws: list[float] | None = None) -> tuple[list[int], list[float]]:
    """Rows of each call, and what the kept gradient holds."""
    calls, kept = [], []

    def piece(part) -> None:
        calls.append(len(part["x"]))
        if draws is not None:
            draws.append(float(torch.rand(())))
        kept.extend(part["x"].tolist())
        if len(calls) in failures:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    micro.run(BATCH, 5, piece, kept.clear)
    return calls, kept


def test_halved_until_it_fits_and_every_row_counts_once() -> None:
    micro = MicroBatches(64)
    with pytest.warns(UserWarning, match="with 5 rows at once: from now on 3"):
        calls, kept = run(micro, {1, 3})
    assert calls == [5, 3, 2, 2, 2, 1]
    assert kept == BATCH["x"].tolist()
    assert (micro.size, micro.oom_events) == (2, 2)
    assert run(micro, set())[0] == [2, 2, 1]


def test_the_random_state_is_that_of_the_first_attempt() -> None:
    draws: list[float] = []
    with pytest.warns(UserWarning, match="out of memory"):
        run(MicroBatches(1, [Remedy("less", lambda: True)]), {3}, draws)
    assert draws[3:6] == draws[:3]
    assert len(set(draws[3:])) == 5


def test_remedies_come_in_order_each_once_and_those_without_effect_are_passed_over() -> None:
    done = []
    remedies = [
        Remedy("first", lambda: bool(done.append("first") or True)),
        Remedy("useless", lambda: False),
        Remedy("second", lambda: bool(done.append("second") or True)),
    ]
    micro = MicroBatches(1, remedies)
    with (
        pytest.warns(UserWarning, match="1 row at once: first is switched on"),
        pytest.raises(TrainingError, match="at once and with first and second: nothing is left to be made smaller"),
    ):
        run(micro, set(range(1, 50)))
    assert done == micro.applied == ["first", "second"]
    assert micro.oom_events == len(micro.sentences) + 1 == 3


def test_the_state_is_plain_and_is_taken_up_again() -> None:
    done = []
    micro = MicroBatches(8, [Remedy("less", lambda: bool(done.append(1) or True))])
    micro.load({"size": 2, "oom_events": 3, "applied": ["less"], "sentences": ["it was so"]})
    assert micro.state() == {"size": 2, "oom_events": 3, "applied": ["less"], "sentences": ["it was so"]}
    assert done == [1]
    smaller = MicroBatches(1)
    smaller.load(micro.state())
    assert smaller.size == 1


def test_a_remedy_switched_on_beforehand_counts_and_is_said() -> None:
    done = []
    remedies = [Remedy("useless", lambda: False), Remedy("less", lambda: bool(done.append(1) or True))]
    micro = MicroBatches(8, remedies)
    assert not micro.foresee("useless", "no room")
    with pytest.warns(UserWarning, match="no room for 3 GB: less is switched on"):
        assert micro.foresee("less", "no room for 3 GB")
    assert not micro.foresee("less", "no room for 3 GB")
    assert (done, micro.applied, micro.oom_events, micro.size) == ([1], ["less"], 1, 8)
    assert micro.sentences == ["no room for 3 GB: less is switched on"]


def test_room_is_reserved_in_blocks_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, plain, alive = torch.device("cpu"), torch.empty, []

    def counted(size: int, **more) -> torch.Tensor:
        if sum(block() is not None for block in alive) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB")
        block = plain(size, **more)
        alive.append(weakref.ref(block))
        return block

    monkeypatch.setattr(torch, "empty", counted)
    monkeypatch.setattr(micro_batches, "BLOCK_BYTES", 1000)
    assert has_room(3000, cpu)
    assert not has_room(3001, cpu)
    assert has_room(2001.5, cpu)
    assert has_room(0, cpu)
    assert len(alive) == 3 + 3 + 3
    assert not any(block() is not None for block in alive)


def test_other_errors_are_not_taken_for_a_lack_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(size: int, **more) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "empty", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        has_room(1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_the_end_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_cpu_allocators_own_message_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_wrong_size_is_refused(size) -> None:
    with pytest.raises(ConfigError, match=r"model.micro_batch is .*allowed: a whole number, 1 or more"):
        MicroBatches(size)


def test_batch_norm_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ConfigError, match="1 is a BatchNorm1d, whose output depends on the other rows"):
        refuse_batch_statistics(network)
    refuse_batch_statistics(nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2)))


def test_pieces_that_other_ranks_share_are_not_made_smaller() -> None:
    micro = MicroBatches(4, may_shrink=False)
    with pytest.raises(TrainingError, match=r"4 rows at once on one of several ranks.*smaller model\.micro_batch"):
        run(micro, {1})
    assert (micro.size, micro.oom_events) == (4, 1)
