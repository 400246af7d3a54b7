import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from projects.redheart.losses import (
    MultiTaskLoss,
    disagreement,
    element_losses,
    sample_losses,
    symmetric_kl,
    twice,
    valid_targets,
)
from projects.redheart.tasks import SCORES, TASKS
from tests.fabricate.story_network import fabricated_batch


def answers(rows: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {task: torch.randn(rows, size, generator=generator, requires_grad=True) for task, size in TASKS.items()}


def whole(loss: MultiTaskLoss, outputs, batch, parts=None):
    mask = batch["target_mask"]
    return loss(outputs, parts or {}, batch["target"], mask, totals=valid_targets(mask), share=1.0)


def by_hand(outputs, batch) -> torch.Tensor:
    """The baseline: masked means of cross-entropy and squared error, added."""
    total = None
    for task in TASKS:
        target, mask = batch["target"][task], batch["target_mask"][task]
        if task == "emotion":
            losses = F.cross_entropy(outputs[task], target, reduction="none")
        else:
            losses = (outputs[task].sigmoid() - target).square()
        mean = torch.where(mask, losses, 0.0).sum() / mask.sum()
        total = mean if total is None else total + mean
    return total


def gradients(value: torch.Tensor, outputs) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(outputs.values())))


def test_with_every_switch_off_loss_and_gradients_are_the_baselines_to_the_bit() -> None:
    batch, outputs = fabricated_batch(9), answers(9)
    ours = whole(MultiTaskLoss(), outputs, batch).objective
    reference = by_hand(outputs, batch)
    assert torch.equal(ours, reference)
    for mine, theirs in zip(gradients(ours, outputs), gradients(reference, outputs), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("switch", [{"label_smoothing": 0.1}, {"rdrop_alpha": 0.7}, {"auxiliary_weight": 0.5}])
def test_each_switch_changes_the_objective_but_not_what_is_compared_with_val(switch: dict) -> None:
    batch, outputs = fabricated_batch(9), answers(9)
    off = whole(MultiTaskLoss(), outputs, batch)
    parts = {"one": answers(9, seed=2)}
    if "rdrop_alpha" in switch:
        first, second = answers(9), answers(9, seed=3)
        outputs = {task: torch.cat([first[task], second[task]]) for task in TASKS}
        parts = {}
        off = whole(MultiTaskLoss(), first, batch)
        other = whole(MultiTaskLoss(), second, batch)
        expected = {task: (off.tasks[task] + other.tasks[task]) / 2 for task in TASKS}
    else:
        expected = off.tasks
    on = whole(MultiTaskLoss(**switch), outputs, batch, parts)
    assert not torch.allclose(on.objective, off.objective, rtol=1e-4)
    for task in TASKS:
        torch.testing.assert_close(on.tasks[task], expected[task])


def test_label_smoothing_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    got = element_losses("emotion", logits, torch.tensor([0]), torch.tensor([True]), smoothing=0.1)
    p = np.exp(logits[0].numpy())
    log_p = np.log(p / p.sum())
    assert float(got) == pytest.approx(float(-(0.9 * log_p[0] + 0.1 * log_p.mean())), rel=1e-6)


def test_what_is_masked_counts_neither_in_loss_nor_in_gradient() -> None:
    batch, outputs = fabricated_batch(6), answers(6)
    before = whole(MultiTaskLoss(), outputs, batch).objective
    spoiled = {task: torch.where(batch["target_mask"][task], target, 5) for task, target in batch["target"].items()}
    after = whole(MultiTaskLoss(), outputs, batch | {"target": spoiled}).objective
    assert torch.equal(before, after)
    for task, gradient in zip(TASKS, gradients(after, outputs), strict=True):
        assert (gradient[~batch["target_mask"][task]] == 0).all()
        assert (gradient[batch["target_mask"][task]] != 0).any()


@pytest.mark.parametrize("rdrop", [0.0, 0.7])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_the_losses_of_pieces_add_up_to_that_of_the_batch(weighting: str, rdrop: float) -> None:
    loss = MultiTaskLoss(weighting=weighting, label_smoothing=0.1, rdrop_alpha=rdrop, auxiliary_weight=0.3)
    batch, passes = fabricated_batch(10), loss.passes
    outputs = [answers(10, seed=number) for number in range(passes)]
    parts = [answers(10, seed=7 + number) for number in range(passes)]
    totals = valid_targets(batch["target_mask"])

    def rows(chosen: slice):
        both = {task: torch.cat([one[task][chosen] for one in outputs]) for task in TASKS}
        own = {"module": {task: torch.cat([one[task][chosen] for one in parts]) for task in TASKS}}
        target, mask = ({task: batch[key][task][chosen] for task in TASKS} for key in ("target", "target_mask"))
        return loss(both, own, target, mask, totals=totals, share=len(mask["emotion"]) / 10)

    together = rows(slice(0, 10))
    pieces = [rows(slice(0, 1)), rows(slice(1, 7)), rows(slice(7, 10))]
    torch.testing.assert_close(sum(piece.objective for piece in pieces), together.objective)
    for task in TASKS:
        torch.testing.assert_close(sum(piece.tasks[task] for piece in pieces), together.tasks[task])


def test_uncertainty_is_kendalls_and_its_best_variance_is_the_loss() -> None:
    batch, outputs = fabricated_batch(8), answers(8)
    loss = MultiTaskLoss(weighting="uncertainty")
    plain = whole(loss, outputs, batch).tasks
    expected = 0.0
    for task in TASKS:
        s = float(loss.log_variance[task].detach())
        assert s == pytest.approx(math.log(1 / 12) if task in SCORES else 0.0)
        expected += math.exp(-s) * float(plain[task]) * (0.5 if task in SCORES else 1.0) + 0.5 * s
    assert float(whole(loss, outputs, batch).objective.detach()) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():  # d/ds of exp(-s) L / 2 + s / 2 is 0 at s = log L, and at log 2 L for the emotion
        for task in TASKS:
            loss.log_variance[task].copy_((plain[task] * (1 if task in SCORES else 2)).log())
    whole(loss, outputs, batch).objective.backward()
    for task in TASKS:
        assert float(loss.log_variance[task].grad) == pytest.approx(0.0, abs=1e-6)


def test_a_task_without_targets_moves_neither_answers_nor_its_variance() -> None:
    batch, outputs = fabricated_batch(5), answers(5)
    batch["target_mask"]["regret"] = torch.zeros(5, 1, dtype=torch.bool)
    loss = MultiTaskLoss(weighting="uncertainty", rdrop_alpha=0.0)
    value = whole(loss, outputs, batch).objective
    value.backward()
    assert torch.isfinite(value)
    assert float(loss.log_variance["regret"].grad) == 0.0
    assert (outputs["regret"].grad == 0).all()
    assert float(loss.log_variance["surd"].grad) != 0.0


def test_the_agreement_terms_do_not_move_the_variances() -> None:
    batch = fabricated_batch(6)
    outputs = {task: torch.cat([answers(6)[task], answers(6, seed=4)[task]]) for task in TASKS}
    grads = []
    for alpha in (0.1, 10.0):
        loss = MultiTaskLoss(weighting="uncertainty", rdrop_alpha=alpha, auxiliary_weight=alpha)
        whole(loss, outputs, batch, {"m": outputs}).objective.backward()
        grads.append(torch.stack([value.grad for value in loss.log_variance.values()]))
    torch.testing.assert_close(grads[0], grads[1])


def test_symmetric_kl_against_torch_distributions_and_numpy_in_double() -> None:
    first, second = torch.randn(50, 7) * 3, torch.randn(50, 7) * 3
    p, q = Categorical(logits=first.double()), Categorical(logits=second.double())
    reference = (kl_divergence(p, q) + kl_divergence(q, p)) / 2
    torch.testing.assert_close(symmetric_kl(first, second).double(), reference, rtol=1e-5, atol=1e-7)
    a, b = first.double().numpy(), second.double().numpy()
    a, b = np.exp(a) / np.exp(a).sum(1, keepdims=True), np.exp(b) / np.exp(b).sum(1, keepdims=True)
    direct = 0.5 * ((a * np.log(a / b)).sum(1) + (b * np.log(b / a)).sum(1))
    np.testing.assert_allclose(symmetric_kl(first.double(), second.double()).numpy(), direct, rtol=1e-9)


def test_symmetric_kl_of_extreme_logits_is_finite_with_its_gradient() -> None:
    first = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], requires_grad=True)
    second = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0]], requires_grad=True)
    values = symmetric_kl(first, second)
    # By hand, in double: p = (1, 0, 0), q = (0, 1, 0), log p - log q = (2e4, -2e4, ...); both directions give 2e4.
    assert values.tolist() == [2e4, 0.0]
    values.sum().backward()
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


def test_symmetric_kl_of_nearly_equal_rows_keeps_its_digits() -> None:
    first = torch.tensor([[0.3, -0.2, 0.9]])
    second = first + torch.tensor([[1e-4, 0.0, -1e-4]])
    p, q = Categorical(logits=first.double()), Categorical(logits=second.double())
    reference = float((kl_divergence(p, q) + kl_divergence(q, p)) / 2)
    assert float(symmetric_kl(first, second)) == pytest.approx(reference, rel=0.02)  # the logits' own rounding
    half = symmetric_kl(first.bfloat16(), second.bfloat16())
    assert half.dtype == torch.float32


def test_scores_disagree_by_the_square_of_their_difference() -> None:
    got = disagreement(
        "regret", torch.tensor([[0.0], [0.0]]), torch.tensor([[100.0], [3.0]]), torch.tensor([[True], [False]])
    )
    assert got.tolist() == [[0.25], [0.0]]


def test_rdrop_by_hand() -> None:
    batch, first, second = fabricated_batch(7), answers(7), answers(7, seed=5)
    both = {task: torch.cat([first[task], second[task]]) for task in TASKS}
    got = whole(MultiTaskLoss(rdrop_alpha=0.7), both, batch).objective
    expected = (by_hand(first, batch) + by_hand(second, batch)) / 2
    for task in TASKS:
        mask = batch["target_mask"][task]
        if task == "emotion":
            p, q = Categorical(logits=first[task]), Categorical(logits=second[task])
            apart = (kl_divergence(p, q) + kl_divergence(q, p)) / 2
        else:
            apart = (first[task].sigmoid() - second[task].sigmoid()) ** 2
        expected = expected + 0.7 * apart[mask].mean()
    torch.testing.assert_close(got, expected)


def test_the_auxiliary_loss_is_the_mean_over_modules_of_their_own_tasks() -> None:
    batch, outputs = fabricated_batch(7), answers(7)
    one, two = answers(7, seed=6), answers(7, seed=8)
    parts = {"a": {"emotion": one["emotion"]}, "b": {"surd": two["surd"], "regret": two["regret"]}}
    got = whole(MultiTaskLoss(auxiliary_weight=0.4), outputs, batch, parts).objective
    single = MultiTaskLoss()
    mask, totals = batch["target_mask"], valid_targets(batch["target_mask"])
    own = [single.plain(part, batch["target"], mask, totals=totals) for part in parts.values()]
    expected = by_hand(outputs, batch) + 0.2 * sum(value for part in own for value in part.values())
    torch.testing.assert_close(got, expected)


def test_sample_losses_by_hand() -> None:
    logits = torch.zeros(2, 7)
    heads = {
        "surd": {
            "prediction": torch.tensor([[0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),
            "target": torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),
            "mask": torch.tensor([[True, True, False, False], [False, False, False, False]]),
        }
    }
    got = sample_losses(logits, torch.tensor([3, 0]), torch.tensor([True, False]), heads)
    assert got.tolist() == pytest.approx([math.log(7) + (0.25 + 1.0) / 2, 0.0])


def test_twice_puts_the_second_pass_behind_the_first() -> None:
    got = twice({"x": torch.tensor([1, 2]), "deep": {"y": torch.tensor([3, 4])}, "name": "a"})
    assert (got["x"].tolist(), got["deep"]["y"].tolist(), got["name"]) == ([1, 2, 1, 2], [3, 4, 3, 4], "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighting": "guess"}, "task_weighting is 'guess', allowed: fixed, uncertainty"),
        ({"weights": {"surd": -1.0}}, "task_weights has 'surd': -1.0, allowed: 0 or more for emotion"),
        ({"weights": {"joy": 1.0}}, "task_weights has 'joy'"),
        ({"weighting": "uncertainty", "weights": {"surd": 2.0}}, "'uncertainty' learns them"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"rdrop_alpha": -0.1}, "rdrop_alpha is -0.1, allowed: 0 or more"),
        ({"auxiliary_weight": math.nan}, "auxiliary_weight is nan"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiTaskLoss(**changes)


CE = r"L_{\mathrm{emotion}} = -\langle\textstyle\sum_k (0.9\,y_k + \tfrac{0.1}{7})\log p_k\rangle"
SQUARE = r"L_{t\neq\mathrm{emotion}} = \langle (p-y)^2\rangle"
MORE = r"0.7\sum_t c_t R_t + 0.25\,\tfrac{1}{M}\sum_{m=1}^{M}\sum_{t\in m} c_t L_t^{(m)}"
R_EMOTION = r"R_{\mathrm{emotion}} = \tfrac{1}{2}\langle\mathrm{KL}(p\,\|\,q) + \mathrm{KL}(q\,\|\,p)\rangle"
R_SCORES = r"R_{t\neq\mathrm{emotion}} = \langle (p-q)^2\rangle"
FORMULAS = {
    "fixed": [
        r"\mathcal{L} = 2\,L_{\mathrm{emotion}} + 1\,L_{\mathrm{bentham}} + 1\,L_{\mathrm{regret}}"
        r" + 0.5\,L_{\mathrm{surd}} + " + MORE,
        r"c_{\mathrm{emotion}} = 2, c_{\mathrm{bentham}} = 1, c_{\mathrm{regret}} = 1, c_{\mathrm{surd}} = 0.5",
    ],
    "uncertainty": [
        r"\mathcal{L} = e^{-s_{\mathrm{emotion}}} L_{\mathrm{emotion}}"
        r" + \tfrac{1}{2}e^{-s_{\mathrm{bentham}}} L_{\mathrm{bentham}}"
        r" + \tfrac{1}{2}e^{-s_{\mathrm{regret}}} L_{\mathrm{regret}}"
        r" + \tfrac{1}{2}e^{-s_{\mathrm{surd}}} L_{\mathrm{surd}} + \tfrac{1}{2}\sum_{t:\,n_t>0} s_t + " + MORE,
        r"c_{\mathrm{emotion}} = e^{-\bar{s}_{\mathrm{emotion}}}, "
        r"c_{\mathrm{bentham}} = \tfrac{1}{2}e^{-\bar{s}_{\mathrm{bentham}}}, "
        r"c_{\mathrm{regret}} = \tfrac{1}{2}e^{-\bar{s}_{\mathrm{regret}}}, "
        r"c_{\mathrm{surd}} = \tfrac{1}{2}e^{-\bar{s}_{\mathrm{surd}}}",
    ],
}


def printed_terms(task: str, logits: np.ndarray, batch) -> tuple[float, float]:
    """L_t of a pass or two, (P, B, D), and R_t of the two, by what FORMULAS prints."""
    valid = batch["target_mask"][task].numpy()
    if not valid.any():
        return 0.0, 0.0
    y = batch["target"][task].numpy()
    if task != "emotion":
        p = 1 / (1 + np.exp(-logits))
        return float(((p - y) ** 2)[:, valid].mean()), float(((p[0] - p[-1]) ** 2)[valid].mean())
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    cross = -((0.9 * np.eye(7)[y] + 0.1 / 7) * np.log(p)).sum(axis=-1)
    kl = [(one * np.log(one / other)).sum(axis=-1) for one, other in ((p[0], p[-1]), (p[-1], p[0]))]
    return float(cross[:, valid].mean()), float((0.5 * (kl[0] + kl[1]))[valid].mean())


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
@pytest.mark.parametrize("empty", [None, "surd"])
def test_the_printed_formula_has_the_value_of_the_loss(weighting: str, empty: str | None) -> None:
    weights = {"emotion": 2.0, "surd": 0.5} if weighting == "fixed" else None
    loss = MultiTaskLoss(
        weighting=weighting, weights=weights, label_smoothing=0.1, rdrop_alpha=0.7, auxiliary_weight=0.25
    )
    first, *constants = FORMULAS[weighting]
    assert loss.formula().split(r",\quad ") == [first, CE, SQUARE, R_EMOTION, R_SCORES, *constants]
    # What stands in these strings, written by hand.
    batch = fabricated_batch(5, parts=3, embedding_dim=8)
    if empty is not None:
        batch["target_mask"][empty] = torch.zeros_like(batch["target_mask"][empty])
    s = {"emotion": 0.3, "bentham": -1.0, "regret": 0.5, "surd": -0.2}
    if loss.log_variance is not None:
        loss.log_variance.load_state_dict({task: torch.tensor(value) for task, value in s.items()})
        c = {task: math.exp(-value) * (1 if task == "emotion" else 0.5) for task, value in s.items()}
        expected = 0.5 * sum(value for task, value in s.items() if task != empty)
    else:
        c, expected = {"emotion": 2.0, "bentham": 1.0, "regret": 1.0, "surd": 0.5}, 0.0
    passes = {task: torch.cat([answers(5, 1)[task], answers(5, 2)[task]]).detach() for task in TASKS}
    modules = {"one": {"emotion": passes["emotion"] * 0.5, "regret": passes["regret"] - 1}, "two": {"surd": passes["surd"] + 1}}  # fmt: skip  # noqa: E501

    def terms(task: str, logits: torch.Tensor) -> tuple[float, float]:
        return printed_terms(task, logits.double().numpy().reshape(2, 5, -1), batch)

    for task in TASKS:
        task_loss, apart = terms(task, passes[task])
        expected += c[task] * (task_loss + 0.7 * apart)
    expected += 0.25 / 2 * sum(c[t] * terms(t, z)[0] for part in modules.values() for t, z in part.items())
    assert whole(loss, passes, batch, modules).objective.item() == pytest.approx(expected, rel=1e-5)


def test_the_formula_leaves_out_what_is_off() -> None:
    plain = " + ".join(rf"1\,L_{{\mathrm{{{task}}}}}" for task in TASKS)
    labels = CE.replace(r"0.9\,y_k + \tfrac{0.1}{7}", "y_k")
    assert MultiTaskLoss().formula() == r",\quad ".join([r"\mathcal{L} = " + plain, labels, SQUARE])
