import json

import jsonschema
import numpy as np
import pytest
import torch

from shared.crossover import BestSingle, CrossoverData, CrossoverSettings, load_metadata, load_state, run_crossover
from shared.crossover.acceptance import CROSS_FITTED, HELD_OUT
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.side_effects import CacheError
from shared.errors import LeakError, TrainingError
from shared.module_groups import ModuleGroups
from shared.report.schema import report_schema
from shared.snapshots import SnapshotStore
from tests.shared.crossover.networks import CLASSES, WIDTH, Network, Normed, make_batches

SETTINGS = CrossoverSettings(draws=300)
EPOCHS = range(1, 20, 2)


class Additive(Network):
    """Each group adds its own error to the logits, so it has an epoch of its own at which it is best."""

    def __init__(self):
        super().__init__()
        self.low = torch.nn.Linear(WIDTH, CLASSES)
        self.high = torch.nn.Linear(WIDTH, CLASSES)

    def logits(self, batch):
        return self.low(batch["image"]) + self.high(batch["image"])


def learnable(num_groups, first_group=0, seed=0, classes=CLASSES):
    """Batches whose target is a linear function of the input, plus noise."""
    batches = make_batches(num_groups, 6, 32, first_group, seed)
    truth = torch.randn(WIDTH, classes, generator=torch.Generator().manual_seed(99))
    noise = torch.Generator().manual_seed(seed + 1)
    for batch in batches:
        logits = batch["image"] @ truth
        batch["target"] = (logits + torch.randn(logits.shape, generator=noise)).argmax(dim=1)
    return batches, truth


def additive_run(folder, low_best=5, high_best=15, spread=0.25):
    """Snapshots of which `low` is best at one epoch and `high` at another."""
    module = Additive()
    truth = learnable(1)[1].T
    groups = ModuleGroups.of(module)
    store = SnapshotStore(folder / "snapshots", groups)
    for epoch in EPOCHS:
        noise = torch.Generator().manual_seed(epoch)
        state = {name: torch.zeros_like(tensor) for name, tensor in module.state_dict().items()}
        for group, best in (("low", low_best), ("high", high_best)):
            error = torch.randn(truth.shape, generator=noise) * spread * abs(epoch - best) / 4
            state[f"{group}.weight"] = truth / 2 + error
        store.write(epoch, epoch * 10, groups.split(state), {"val/loss": abs(epoch - 10) / 10})
    return module, groups, store


def fit(module, batches):
    """A short fit."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(30):
        for batch in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module.logits(batch), batch["target"]).backward()
            optimizer.step()


def state_at(groups, store, epoch):
    return groups.join({name: store.load(epoch, name) for name in groups.names})


def run(
    folder, module, groups, store, spots, best_epoch, select, accept=None, train=None, settings=SETTINGS, said=None
):
    best = BestSingle(state_at(groups, store, best_epoch), best_epoch)
    data = CrossoverData(lambda: select, accept and (lambda: accept), train and (lambda: train))
    chosen = {"decision": "chosen", "reason": "by hand", "epochs": spots}
    said = [] if said is None else said
    return run_crossover(module, groups, store, chosen, best, data, settings, folder / "out", said.append)


def test_a_real_gain_is_found_and_accepted(tmp_path):
    module, groups, store = additive_run(tmp_path)
    said = []
    result = run(
        tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], learnable(40, 100, seed=5)[0],
        said=said,
    )  # fmt: skip
    assert result.report["decision"] == "accepted"
    assert result.report["sources"] == {"low": 5, "high": 15}
    assert result.details["form"] == HELD_OUT
    assert result.report["gain_accept"] > result.report["smallest_detectable"] > 0
    assert "over 40 groups" in result.report["reason"]
    assert "more than luck" in result.report["reason"]
    assert "smallest gain that could have been seen" in result.report["reason"]
    expected = {**state_at(groups, store, 15), **store.load(5, "low")}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.final_state.items())
    assert said[0].startswith("No loss barrier between the best single checkpoint (epoch 9) and epoch 5")
    assert said[-1].startswith("Crossover accepted: ")


def test_the_report_part_fits_its_schema(tmp_path):
    module, groups, store = additive_run(tmp_path)
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0])
    schema = report_schema()
    part = schema["properties"]["crossover"]
    jsonschema.validate(result.report, {**part, "$defs": schema["$defs"]})
    written = json.loads((tmp_path / "out" / "crossover.json").read_text())
    assert written == json.loads(json.dumps(result.details))
    assert written["form"] == CROSS_FITTED
    assert written["n_groups"] == 24
    assert {variant["shift"] for variant in written["variants"]} == {-4, -2, 2, 4}
    # Reruns without a block look at further children.
    assert written["n_candidates"] >= len(written["tried"]) == written["luck"]["n_searched"]
    assert written["cost"]["search"]["passes"] >= written["n_candidates"]
    assert written["gain_val"] == pytest.approx(written["luck"]["seen"])  # no batch norm here
    assert "search alone" in written["luck"]["about"]
    assert written["acceptance"]["decision"] == written["decision"]


def test_files_say_where_each_parameter_comes_from(tmp_path):
    module, groups, store = additive_run(tmp_path)
    result = run(
        tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], learnable(40, 100, seed=5)[0]
    )
    final = tmp_path / "out" / "crossover_final.safetensors"
    metadata = load_metadata(final)
    assert metadata["decision"] == "accepted"
    assert metadata["source_epochs"] == {"low.weight": 5, "low.bias": 5, "high.weight": 15, "high.bias": 15}
    assert set(result.rows) == {"crossover", "uniform_soup", "greedy_soup", "lawa"}
    for row, path in result.rows.items():
        assert path == tmp_path / "out" / "candidates" / f"{row}.safetensors"
        assert set(load_state(path, module.state_dict())) == set(groups.shapes)
    mean = sum(store.load(epoch, "low")["low.weight"].double() for epoch in EPOCHS) / len(EPOCHS)
    assert torch.equal(load_state(result.rows["uniform_soup"])["low.weight"], mean.float())
    assert result.details["soups"]["lawa"]["members"] == [11, 13, 15, 17, 19]


def test_where_every_crossover_is_worse_the_best_single_is_returned_bit_for_bit(tmp_path):
    """Batch norm is in it, so that a re-estimation in the fallback would show."""
    module = Normed()
    groups = ModuleGroups.of(module)
    store = SnapshotStore(tmp_path / "snapshots", groups)
    batches, _ = learnable(45)
    fit(module, batches)
    trained = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for epoch in EPOCHS:
        noise = torch.Generator().manual_seed(epoch)
        spoilt = {
            name: tensor if epoch == 9 or not tensor.is_floating_point()
            else tensor + 3 * torch.rand(tensor.shape, generator=noise)
            for name, tensor in trained.items()
        }  # fmt: skip
        store.write(epoch, epoch, groups.split(spoilt), {"val/loss": float(epoch != 9)})
    result = run(
        tmp_path, module, groups, store, {"backbone": 7, "head": 11}, 9, batches, learnable(30, 100, seed=3)[0], batches
    )
    assert result.report["decision"] == "declined"
    assert "nothing better than the best single checkpoint on val" in result.report["reason"]
    assert "On 30 groups" in result.report["reason"]
    assert "smallest gain that could have been seen" in result.report["reason"]
    assert result.report["gain_val"] == 0.0
    written = load_state(tmp_path / "out" / "crossover_final.safetensors")
    for name, tensor in trained.items():
        assert torch.equal(result.final_state[name], tensor)
        assert torch.equal(written[name], tensor)
        assert torch.equal(module.state_dict()[name], tensor)
    assert result.details["soups"]["uniform_soup"]["batch_norm"]["compared"]


def test_batch_norm_is_reestimated_where_that_is_better(tmp_path):
    """Every snapshot has the trained backbone with wrong statistics; heads are good from epoch 11 on."""
    module = Normed()
    groups = ModuleGroups.of(module)
    store = SnapshotStore(tmp_path / "snapshots", groups)
    batches, _ = learnable(45)
    fit(module, batches)
    trained = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for epoch in EPOCHS:
        state = dict(trained)
        state["backbone.1.running_mean"] = trained["backbone.1.running_mean"] + 1 + epoch / 100
        state["head.1.weight"] = trained["head.1.weight"] * ((1 + epoch / 1000) if epoch > 9 else -1.0)
        store.write(epoch, epoch, groups.split(state), {"val/loss": 1.0})
    accept = learnable(30, 100, seed=3)[0]
    result = run(tmp_path, module, groups, store, {"backbone": 5, "head": 15}, 3, batches, accept, batches)
    compared = result.details["batch_norm"]
    assert compared["compared"]
    assert compared["loss_reestimated"] < compared["loss_as_crossed"]
    assert result.details["batch_norm_reestimated"]
    assert result.report["decision"] == "accepted"
    assert result.report["gain_val"] == pytest.approx(result.details["best_single_loss"] - compared["loss_reestimated"])
    found = result.final_state["backbone.1.running_mean"]
    assert torch.allclose(found, trained["backbone.1.running_mean"], atol=0.2)
    assert load_metadata(tmp_path / "out" / "crossover_final.safetensors")["batch_norm"] == "re-estimated"
    soup = result.details["soups"]["uniform_soup"]["batch_norm"]
    assert soup["compared"]


def test_equal_inputs_give_equal_bytes(tmp_path):
    contents = []
    for name in ("first", "second"):
        module, groups, store = additive_run(tmp_path / name)
        torch.manual_seed(len(contents))  # the global state must not matter
        result = run(tmp_path / name, module, groups, store, {"low": 5, "high": 15}, 9, learnable(20)[0])
        files = sorted((tmp_path / name / "out").rglob("*.safetensors"))
        details = {key: value for key, value in result.details.items() if key != "cost"}
        contents.append(([path.read_bytes() for path in files], details))
    assert contents[0] == contents[1]


def test_few_groups_cannot_decide(tmp_path):
    module, groups, store = additive_run(tmp_path)
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(4)[0])
    assert result.report["decision"] == "undecidable"
    assert "4 groups (cross-fitted) cannot decide: at least 6 are needed" in result.report["reason"]
    best = state_at(groups, store, 9)
    assert all(torch.equal(tensor, best[name]) for name, tensor in result.final_state.items())


def test_one_group_cannot_decide(tmp_path):
    module, groups, store = additive_run(tmp_path)
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(1)[0])
    assert result.report["decision"] == "undecidable"


def test_luck_is_told_and_does_not_decide(tmp_path, monkeypatch):
    import shared.crossover.selection as selection

    module, groups, store = additive_run(tmp_path)
    real = selection.luck
    monkeypatch.setattr(
        selection, "luck",
        lambda *args: type(found := real(*args))(**{**found.as_dict(), "verdict": "indistinguishable from luck"}),
    )  # fmt: skip
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0])
    assert result.details["acceptance"]["decision"] == result.report["decision"] == "accepted"
    assert "indistinguishable from luck" in result.report["reason"]
    assert "corrected for the data that the blocks share" in result.report["reason"]
    assert result.report["sources"] == {"low": 5, "high": 15}


@pytest.mark.parametrize("known", [True, False])
def test_pooled_groups_know_which_of_them_come_from_accept(tmp_path, monkeypatch, known):
    """val has the groups in between, so that the order of the codes is not the order of the batches."""
    import shared.crossover.decision as decision

    masks = []
    real = decision.accept
    monkeypatch.setattr(decision, "accept", lambda *args: masks.append(args[3]) or real(*args))
    module, groups, store = additive_run(tmp_path)
    val, accept = learnable(12, 50)[0], learnable(8, 5)[0] + learnable(8, 90)[0]
    if not known:
        val, accept = ([{k: b[k] for k in ("image", "target")} for b in fold] for fold in (val[:1], accept[:1]))
        for fold, number in ((val, 20), (accept, 10)):
            fold[0] = {key: tensor[:number] for key, tensor in fold[0].items()}
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, val, accept)
    assert result.details["form"] == CROSS_FITTED
    expected = [True] * 8 + [False] * 12 + [True] * 8 if known else [False] * 20 + [True] * 10
    assert masks[0].tolist() == expected
    assert result.details["acceptance"]["lower_unseen"] is not None


@pytest.mark.parametrize("accept_groups", [0, 40])
def test_a_child_that_is_one_whole_epoch_says_so(tmp_path, accept_groups):
    """Both groups are best at epoch 13, which is no centre, only a neighbour of both."""
    module, groups, store = additive_run(tmp_path, low_best=13, high_best=13, spread=0.6)
    accept = learnable(accept_groups, 100, seed=5)[0] if accept_groups else None
    result = run(tmp_path, module, groups, store, {"low": 11, "high": 15}, 5, learnable(24)[0], accept)
    assert result.report["decision"] == "accepted"
    assert result.details["child_is_single_epoch"] == 13
    assert "The child is epoch 13 as a whole, not a mixture." in result.report["reason"]
    assert all(torch.equal(tensor, state_at(groups, store, 13)[name]) for name, tensor in result.final_state.items())


def test_without_sweet_spots_only_soups_are_made(tmp_path):
    module, groups, store = additive_run(tmp_path)
    best = BestSingle(state_at(groups, store, 9), 9)
    declined = {"decision": "declined", "reason": "3 snapshots are fewer than 6", "epochs": {}}
    data = CrossoverData(lambda: learnable(8)[0])
    result = run_crossover(module, groups, store, declined, best, data, SETTINGS, tmp_path / "out", lambda text: None)
    assert result.report["decision"] == "declined"
    assert result.report["reason"].endswith("3 snapshots are fewer than 6")
    assert result.report["n_candidates"] == 0
    assert result.child_state is None
    assert set(result.rows) == {"uniform_soup", "greedy_soup", "lawa"}
    empty = SnapshotStore(tmp_path / "none", groups)
    result = run_crossover(module, groups, empty, declined, best, data, SETTINGS, tmp_path / "out", lambda text: None)
    assert result.rows == {}


def test_a_group_in_both_folds_is_a_leak(tmp_path):
    module, groups, store = additive_run(tmp_path)
    with pytest.raises(LeakError, match="10 groups stand in val and in accept, for example group_index 14"):
        run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], learnable(40, 14)[0])


def test_folds_of_which_one_knows_its_groups_are_refused(tmp_path):
    module, groups, store = additive_run(tmp_path)
    bare = [{key: batch[key] for key in ("image", "target")} for batch in learnable(9)[0]]
    with pytest.raises(TrainingError, match="batches of val hold group_index and those of accept do not"):
        run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], bare)


def test_samples_are_groups_where_nothing_tells_them(tmp_path):
    module, groups, store = additive_run(tmp_path)
    bare = [{key: batch[key] for key in ("image", "target")} for batch in learnable(9)[0]]
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, bare)
    assert result.details["group_index"] == "none: each sample is a group"
    assert result.details["n_groups"] == 54


@pytest.mark.parametrize(("damaged", "stands_in"), [(1, None), (15, 13)])
def test_a_damaged_snapshot_is_left_out_and_named(tmp_path, damaged, stands_in):
    module, groups, store = additive_run(tmp_path)
    path = store.path(damaged) / "high.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    said = []
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], said=said)
    assert f"The snapshot of epoch {damaged} is left out: snapshot file {path} cannot be used" in said[0]
    assert "high.safetensors" in result.details["damaged_snapshots"][str(damaged)]
    assert damaged not in result.details["soups"]["uniform_soup"]["members"]
    assert len(result.details["soups"]["uniform_soup"]["members"]) == len(EPOCHS) - 1
    if stands_in is None:
        assert result.details["clipped"] == {}
    else:
        assert result.details["clipped"] == {"high": stands_in}
        assert "The sweet spot of high, epoch 15, has no snapshot that can be used; the nearest, epoch 13" in said[1]


def test_where_all_snapshots_are_damaged_the_best_single_stays(tmp_path):
    module, groups, store = additive_run(tmp_path)
    best = BestSingle(state_at(groups, store, 9), 9)
    for epoch in EPOCHS:
        (store.path(epoch) / "low.safetensors").unlink()
    data = CrossoverData(lambda: learnable(24)[0])
    chosen = {"decision": "chosen", "reason": "by hand", "epochs": {"low": 5, "high": 15}}
    result = run_crossover(module, groups, store, chosen, best, data, SETTINGS, tmp_path / "out", lambda text: None)
    assert result.report["decision"] == "declined"
    assert result.report["reason"] == "No search, since none of the 10 snapshots can be used"
    assert result.rows == {}
    assert torch.equal(result.final_state["low.weight"], best.state["low.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_sweeps": 0}, "max_sweeps is 0"), ({"neighbours": (0,)}, r"neighbours is \[0\]"),
        ({"barrier_points": (1.0,)}, r"barrier_points is \[1.0\]"), ({"cache_mb": -1}, "cache_mb is -1"),
        ({"blocks": 1}, "blocks is 1"), ({"lawa_k": 0}, "lawa_k is 0"),
    ],
)  # fmt: skip
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        CrossoverSettings(**settings)


def test_a_best_single_that_is_not_finite_is_no_basis(tmp_path):
    module, groups, store = additive_run(tmp_path)
    broken = {name: torch.full_like(t, np.nan) for name, t in state_at(groups, store, 9).items()}
    data = CrossoverData(lambda: learnable(24)[0])
    chosen = {"decision": "chosen", "reason": "by hand", "epochs": {"low": 5, "high": 15}}
    result = run_crossover(
        module, groups, store, chosen, BestSingle(broken, 9), data, SETTINGS, tmp_path / "out", lambda text: None
    )
    assert result.report["decision"] == "undecidable"
    assert result.report["expected_luck"] is None
    assert "not finite" in result.report["reason"]


def test_a_module_that_cannot_be_cached_is_searched_without_and_says_so(tmp_path, monkeypatch):
    module, groups, store = additive_run(tmp_path)
    seen, original = [], ChildEvaluator.losses

    def losses(self, assignment):
        seen.append(self._cached)
        if self._cached and len(seen) > 3:
            raise CacheError
        return original(self, assignment)

    select, accept, said = learnable(24)[0], learnable(40, 100, seed=5)[0], []
    plain = run(tmp_path / "plain", module, groups, store, {"low": 5, "high": 15}, 9, select, accept)
    monkeypatch.setattr(ChildEvaluator, "losses", losses)
    found = run(tmp_path / "cached", module, groups, store, {"low": 5, "high": 15}, 9, select, accept, said=said)
    assert any(seen)
    assert seen[-1] is False
    assert any("caching is not valid for this module" in line and "begins again without" in line for line in said)
    assert found.report == plain.report
    assert found.details["cost"]["cache_mb"] == 0.0
