import pytest
import torch

from projects.redheart import module as module_file
from projects.redheart.memory_estimate import state_bytes, step_room
from projects.redheart.module import OFFLOAD, RedHeartModule
from shared import low_memory_optim
from shared.micro_batches import has_room
from tests.fabricate.story_module import ADAMW, story_module, train

# It has states, and unlike Adam moves a weight by next to nothing where the gradient is rounding alone.
MOMENTUM = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
FACTORED = ADAMW | {"name": "adamw_factored"}


@pytest.fixture(autouse=True)
def factories_are_known():
    """Torch remembers its factories when a device context is first used; none may be one that a test has replaced."""
    with torch.device("meta"):
        torch.empty(0)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is taken for a device with its own memory."""
    monkeypatch.setattr(RedHeartModule, "_has_own_memory", lambda self: True)


@pytest.fixture(scope="module")
def plain() -> RedHeartModule:
    """Trained by three steps of two rows with enough memory."""
    module = story_module(optimizer=MOMENTUM)
    train(module, [2, 2, 2], limit_val_batches=0)
    assert module.oom_events == 0
    return module


class EndOfMemory:
    """Says at chosen calls of the network's forward that memory has ended; keeps whether states lay offloaded."""

    def __init__(self, module: RedHeartModule, calls: set[int]) -> None:
        self.module, self.calls, self.count, self.offloaded = module, calls, 0, []
        module.network.register_forward_pre_hook(self)

    def __call__(self, network, arguments) -> None:
        self.count += 1
        self.offloaded.append(bool(self.module.trainer.optimizers[0].states_are_offloaded))
        if self.count in self.calls:
            raise torch.OutOfMemoryError("CUDA out of memory")


def assert_same_weights(one: RedHeartModule, other: RedHeartModule) -> None:
    for name, weight in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_offloading_amid_a_step_leaves_a_step_that_goes_on(plain: RedHeartModule, step: int) -> None:
    module = story_module(micro_batch=1, activation_checkpointing=True, optimizer=MOMENTUM)
    memory = EndOfMemory(module, {2 * step})  # the second row of the step
    with pytest.warns(UserWarning, match="out of memory with 1 row at once: optimizer offload is switched on"):
        trainer = train(module, [2, 2, 2], limit_val_batches=0)
    assert trainer.optimizers[0].states_are_offloaded
    # On before the step is done again, and on from then on.
    assert memory.offloaded == [False] * (2 * step) + [True] * (2 * (4 - step))
    assert (module.oom_events, module.micro_batches.applied) == (1, [OFFLOAD])
    assert_same_weights(module, plain)


@pytest.mark.usefixtures("accelerator")
def test_without_room_for_the_states_they_are_offloaded_before_the_first_step(
    plain: RedHeartModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def no_room(size: int, **more) -> torch.Tensor:
        asked.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB")

    def room(num_bytes: float, device: torch.device) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(torch, "empty", no_room)
            return has_room(num_bytes, device)

    monkeypatch.setattr(module_file, "has_room", room)
    module = story_module(optimizer=MOMENTUM)
    memory = EndOfMemory(module, set())
    sentence = r"no room for the 0\.\d\d GB of gradients, optimiser states and a step: optimizer offload is switched on"
    with pytest.warns(UserWarning, match=sentence):
        train(module, [2, 2, 2], limit_val_batches=0)
    assert len(asked) == 1
    assert memory.offloaded == [True] * 3
    assert (module.oom_events, module.micro_batches.applied) == (1, [OFFLOAD])
    assert module.findings() == module.micro_batches.sentences
    assert_same_weights(module, plain)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("optimizer", [ADAMW, FACTORED])
def test_what_is_asked_for_is_gradients_states_and_the_steps_own(
    optimizer: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(module_file, "has_room", lambda size, device: bool(asked.append((size, device)) or True))
    module = story_module(optimizer=optimizer)
    trainer = train(module, [4], limit_val_batches=0)
    weights = list(module.parameters())
    own, name = sum(weight.nbytes for weight in weights), optimizer["name"]
    expected = own + state_bytes(weights, name) + step_room(weights, name)
    assert asked == [(expected, torch.device("cpu"))]
    assert not trainer.optimizers[0].states_are_offloaded
    assert module.oom_events == 0
    # States that are there already, as after resuming, are not asked for again.
    module._make_room(trainer.optimizers[0])
    kept = low_memory_optim.bytes_of_states(trainer.optimizers[0])
    assert asked[1][0] == pytest.approx(expected - kept, abs=8 * len(weights))


def test_on_a_cpu_nothing_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_file, "has_room", lambda *given: pytest.fail("asked"))
    train(story_module(), [4], limit_val_batches=0)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_half_precision_with_an_optimiser_that_loses_small_updates_is_a_finding(name: str) -> None:
    (found,) = story_module(weights="bfloat16", optimizer={"name": name, "lr": 1e-3}).findings()
    assert found.startswith(f"model.weights=bfloat16 with optimizer.name={name} loses small updates: ")
    assert found.endswith("take optimizer.name=adamw_factored or adamw_8bit, or model.weights=float32")
    assert story_module(optimizer={"name": name, "lr": 1e-3}).findings() == []
    for kept in low_memory_optim.KEEP_SMALL_UPDATES:
        assert story_module(weights="bfloat16", optimizer={"name": kept, "lr": 1e-3}).findings() == []
