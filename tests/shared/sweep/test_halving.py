import math
import random
from types import SimpleNamespace

import pytest

from shared.sweep import exclusive_files
from shared.sweep.halving import SuccessiveHalving, goes_on
from shared.sweep.halving_rule import HalvingRule


@pytest.mark.parametrize(
    ("own", "others", "eta", "direction", "expected"),
    [
        (9.0, [], 2, "min", True),  # alone
        (9.0, [1.0], 3, "min", True),  # two, fewer than eta
        (9.0, [1.0], 2, "min", False),  # the worse half of two
        (1.0, [9.0], 2, "min", True),
        (2.0, [1.0, 3.0, 4.0, 5.0, 6.0], 3, "min", True),  # second of six, two go on
        (3.0, [1.0, 2.0, 4.0, 5.0, 6.0], 3, "min", False),  # third of six
        (3.0, [1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0], 3, "min", False),  # of eight 8 // 3 = 2 go on
        (1.0, [1.0, 1.0, 1.0], 2, "min", True),  # equals are not better
        (9.0, [1.0], 2, "max", True),
        (1.0, [9.0], 2, "max", False),
    ],
)
def test_the_best_part_goes_on(own, others, eta, direction, expected):
    assert goes_on(own, others, eta, direction) is expected


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="direction is 'up'; allowed are min, max"):
        goes_on(1.0, [], 2, "up")


def trained(folder, point, curve, rule, generation=0, direction="min", callback=None):
    """What a fit does with the callback, without the fit; returns the callback and the epochs that were trained."""
    trainer = SimpleNamespace(should_stop=False, max_epochs=len(curve), current_epoch=0)
    told = []
    callback = callback or SuccessiveHalving(
        rule, folder, point, generation, direction, lambda: curve[trainer.current_epoch], told.append
    )
    callback.on_train_start(trainer, None)
    while trainer.current_epoch < len(curve) and not trainer.should_stop:
        callback.on_train_epoch_end(trainer, None)
        trainer.current_epoch += 1
    return callback, trainer.current_epoch, told


def test_hand_values_of_four_points_on_one_folder(tmp_path):
    rule = HalvingRule(1, 2)
    ends = [
        trained(tmp_path, name, [loss] * 4, rule)
        for name, loss in (("a", 3.0), ("b", 4.0), ("c", 2.0), ("d", 2.5))
    ]  # fmt: skip
    # a: first everywhere. b: worse of two at rung 1. c: best of three (1 goes on) at rung 1, of two at rung 2.
    # d: second of four at rung 1, where two go on; at rung 2 second of three, where one does.
    assert [(callback.stopped_at, epochs) for callback, epochs, _ in ends] == [(None, 4), (1, 1), (None, 4), (2, 2)]
    assert ends[3][2] == [None, 2]
    assert sorted(path.name for path in (tmp_path / "rungs" / "2").iterdir()) == ["a.json", "c.json", "d.json"]
    assert not (tmp_path / "rungs" / "4").exists()  # behind the last epoch there is nothing to save


def test_other_generations_and_scores_that_are_not_finite_do_not_count(tmp_path):
    rule = HalvingRule(1, 2)
    trained(tmp_path, "a", [1.0, 1.0], rule, generation=0)
    assert trained(tmp_path, "b", [5.0, 5.0], rule, generation=1)[0].stopped_at is None
    assert trained(tmp_path, "c", [math.nan, 9.0], rule, generation=1)[0].stopped_at is None
    assert not (tmp_path / "rungs" / "1" / "c.json").exists()


def test_a_resumed_point_is_compared_by_what_it_left_and_stays_given_up(tmp_path):
    rule = HalvingRule(1, 2)
    trained(tmp_path, "a", [1.0, 1.0], rule)
    callback, epochs, _ = trained(tmp_path, "b", [2.0, 2.0], rule)
    assert (callback.stopped_at, epochs) == (1, 1)
    again, epochs, _ = trained(tmp_path, "b", [0.5, 0.5], rule)  # killed before its checkpoint: the rung knows it
    assert (again.stopped_at, epochs) == (1, 1)
    restored = SuccessiveHalving(rule, tmp_path, "b", 0, "min", lambda: 0.0, lambda _: None)
    restored.load_state_dict(callback.state_dict())
    assert trained(tmp_path, "b", [0.5, 0.5], rule, callback=restored)[1] == 0


def test_a_damaged_rung_file_is_no_result(tmp_path):
    (tmp_path / "rungs" / "1").mkdir(parents=True)
    (tmp_path / "rungs" / "1" / "x.json").write_text('{"score": 0.0, "genera')
    assert trained(tmp_path, "b", [2.0, 2.0], HalvingRule(1, 2))[0].stopped_at is None
    assert exclusive_files.read(tmp_path / "rungs" / "1" / "b.json")["score"] == 2.0


def test_it_saves_most_of_the_budget_and_the_optimum_stays(tmp_path):
    """27 rates, losses that fall towards a floor by the distance to the best rate; 20 orders of arrival."""
    rates = [10 ** (-5 + 2 * k / 26) for k in range(27)]

    def curve(rate):
        floor = 0.2 + abs(math.log10(rate) + 4.1)
        return [floor + math.exp(-epoch / 6) for epoch in range(27)]

    best = min(rates, key=lambda rate: curve(rate)[-1])
    shares = []
    for seed in range(20):
        order = random.Random(seed).sample(rates, len(rates))
        folder = tmp_path / str(seed)
        ends = {rate: trained(folder, f"{rate:.3e}", curve(rate), HalvingRule(1, 3)) for rate in order}
        complete = [rate for rate in order if ends[rate][0].stopped_at is None]
        assert min(complete, key=lambda rate: curve(rate)[-1]) == best
        shares.append(sum(epochs for _, epochs, _ in ends.values()) / (27 * 27))
    print(f"share of epochs trained: {min(shares):.2f} to {max(shares):.2f}, mean {sum(shares) / 20:.2f}")
    assert max(shares) < 0.6
    assert sum(shares) / 20 < 0.4
