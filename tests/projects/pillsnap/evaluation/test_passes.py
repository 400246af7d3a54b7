from pathlib import Path

import numpy as np
import pytest
import torch

from projects.pillsnap.evaluation import passes
from projects.pillsnap.evaluation.passes import KeptPasses, network_outputs, predict_photos
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.base_data import no_progress
from shared.errors import DataError, TrainingError
from tests.fabricate.pill_opened_run import made_up_network

CPU = torch.device("cpu")
PREPROCESS = UnifiedPreprocessor(size_px=32, grid=4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return made_up_network()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 40, 52, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_outputs_are_the_networks_own_in_order(network, images: np.ndarray, batch_size: int) -> None:
    done: list[int] = []
    found = predict_photos(
        network, PREPROCESS, lambda place: images[place], 11, batch_size=batch_size, device=CPU, advance=done.append
    )
    with torch.no_grad():
        pixels = torch.from_numpy(PREPROCESS(images))
        features = network.features(pixels)
        np.testing.assert_allclose(found["logits"], network.network(pixels).numpy(), atol=1e-5)
        np.testing.assert_allclose(found["features"], features.numpy(), atol=1e-5)
        expected = network.network.attributes(features)["shape"].numpy()
        np.testing.assert_allclose(found["attribute/shape"], expected, atol=1e-5)
    assert done[-1] == 11
    assert done == sorted(done)


def test_logits_that_are_not_finite_are_refused(network) -> None:
    with pytest.raises(TrainingError, match=r"the network's logits are not finite"):
        network_outputs(network, np.full((1, 3, 32, 32), np.nan, np.float32), CPU)


def kept(folder: Path, final: str = "ab" * 32, preprocess: UnifiedPreprocessor = PREPROCESS) -> KeptPasses:
    return KeptPasses(folder, final, preprocess, no_progress)


def logits(value: float, count: int = 3) -> dict[str, np.ndarray]:
    return {"logits": np.full((count, 2), value, np.float32)}


def test_a_pass_is_made_once_and_shows_its_progress(tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    store = KeptPasses(tmp_path, "ab" * 32, PREPROCESS, lambda *step: shown.append(step))

    def make(advance):
        advance(2)
        return logits(1.5)

    first = store.get("test-clean", ["a", "b", "c"], make)
    again = store.get("test-clean", ["a", "b", "c"], lambda advance: pytest.fail("made twice"))
    np.testing.assert_array_equal(first["logits"], again["logits"])
    assert again["logits"].dtype == np.float32
    assert shown == [("photos of this pass", 2, 3)]


def test_whatever_the_content_depends_on_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["a", "b", "c"]
    paths = {
        kept(tmp_path).path("test-clean", ids),
        kept(tmp_path, final="cd" * 32).path("test-clean", ids),
        kept(tmp_path, preprocess=UnifiedPreprocessor(size_px=32, grid=8)).path("test-clean", ids),
        kept(tmp_path).path("test-noise_5", ids),
        kept(tmp_path).path("test-clean", ["a", "c", "b"]),
    }
    monkeypatch.setattr(passes, "VERSION", passes.VERSION + 1)
    assert len(paths | {kept(tmp_path).path("test-clean", ids)}) == 6


def test_a_killed_pass_leaves_no_file(tmp_path: Path) -> None:
    def killed(advance):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path).get("test-clean", ["a"], killed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "other length", "other content"])
def test_a_damaged_pass_is_named(tmp_path: Path, damage: str) -> None:
    store, ids = kept(tmp_path), ["a", "b", "c"]
    store.get("test-clean", ids, lambda advance: logits(1.0))
    path = store.path("test-clean", ids)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        stored = logits(1.0, 2) if damage == "other length" else {"features": np.zeros((3, 1))}
        np.savez(path, **stored)
    with pytest.raises(DataError, match=r"test-clean-\w{16}\.npz is damaged \(.*\); delete it and evaluate again"):
        store.get("test-clean", ids, lambda advance: logits(1.0))
