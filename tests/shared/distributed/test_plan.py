"""What several processes may be asked to do on this machine; it has no GPU as far as these tests go."""

import copy

import pytest
import torch

from shared.distributed.plan import check_ranks, device_of_one, plan_ranks, threads_of_rank, unused_strategy
from shared.distributed.trainer_arguments import trainer_arguments
from shared.errors import ConfigError

PLAIN = {
    "trainer": {"accelerator": "cpu", "strategy": "ddp", "devices": 2},
    "data": {"batch_size": 16},
    "model": {},
    "optimizer": {"name": "adamw"},
    "runtime": {"rehearse": False},
    "callbacks": {},
}


@pytest.fixture(autouse=True)
def without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def changed(**roots):
    plain = copy.deepcopy(PLAIN)
    for root, values in roots.items():
        plain[root] |= values
    return plain


def test_two_processes_on_a_cpu():
    plan = plan_ranks(PLAIN)
    assert (plan.count, plan.kind, plan.on_gpu, plan.sync_batch_norm, plan.is_sharded) == (
        2,
        "ddp",
        False,
        False,
        False,
    )


@pytest.mark.parametrize("trainer", [{"strategy": "auto", "devices": "auto"}, {"devices": 1}, {"devices": -1}])
def test_one_process(trainer):
    assert plan_ranks(changed(trainer=trainer)).count == 1


def test_several_devices_without_a_strategy_are_ddp():
    plain = changed()
    del plain["trainer"]["strategy"]
    assert (plan_ranks(plain).kind, plan_ranks(plain).count) == ("ddp", 2)


@pytest.mark.parametrize(
    ("devices", "told"), [([1], [1]), ((0,), [0]), ("0,", [0]), ("1", 1), (" 1 ", 1), ("auto", 1), (1, 1)]
)
def test_one_process_in_each_of_the_ways_that_lightning_takes(devices, told):
    assert plan_ranks(changed(trainer={"devices": devices})).count == 1
    assert device_of_one(devices) == told
    assert trainer_arguments(None, devices)["devices"] == told


def test_a_number_in_quotes_is_a_number_and_behind_the_fit_one_device():
    plan = plan_ranks(changed(trainer={"devices": "2"}))
    assert plan.count == trainer_arguments(plan, "2")["devices"] == 2
    assert trainer_arguments(None, "2")["devices"] == 1


def test_a_gpu_that_is_not_there_is_refused_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert plan_ranks(changed(trainer={"accelerator": "gpu", "devices": [1]})).count == 1
    with pytest.raises(ConfigError, match=r"trainer\.devices is \[2\], allowed: GPUs 0 to 1, those of this machine"):
        plan_ranks(changed(trainer={"accelerator": "gpu", "devices": [2]}))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "deepspeed", {"_target_": "some.Strategy"}])
def test_one_process_takes_any_strategy_and_says_that_it_is_not_used(strategy):
    plain = changed(trainer={"strategy": strategy, "devices": 1})
    plan = plan_ranks(plain)
    assert (plan.count, plan.is_sharded) == (1, False)
    (sentence,) = unused_strategy(plain, plan)
    assert sentence == f"trainer.strategy is {strategy!r} and is not used: trainer.devices=1 is one process"


def test_a_strategy_that_is_used_or_not_set_needs_no_word():
    assert unused_strategy(PLAIN, plan_ranks(PLAIN)) == []
    plain = changed(trainer={"strategy": "auto", "devices": 1})
    assert unused_strategy(plain, plan_ranks(plain)) == []


def test_gpus_put_batch_norm_together_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    plain = changed(trainer={"accelerator": "gpu", "devices": "auto"})
    assert (plan_ranks(plain).count, plan_ranks(plain).sync_batch_norm) == (4, True)
    assert not plan_ranks(changed(trainer={"accelerator": "gpu", "sync_batchnorm": False})).sync_batch_norm
    with pytest.raises(ConfigError, match=r"trainer\.devices is 5, allowed: up to 4, the GPUs of this machine"):
        plan_ranks(changed(trainer={"accelerator": "gpu", "devices": 5}))


@pytest.mark.parametrize(
    ("roots", "message"),
    [
        ({"trainer": {"num_nodes": 2}}, r"trainer\.num_nodes is 2, allowed: 1"),
        ({"trainer": {"strategy": "deepspeed"}}, r"trainer\.strategy is 'deepspeed', allowed: auto, ddp"),
        ({"trainer": {"devices": 0}}, r"trainer\.devices is 0, allowed: auto or a whole number from 1 on"),
        ({"trainer": {"devices": [0, 2]}}, r"devices is \[0, 2\].*CUDA_VISIBLE_DEVICES=0,2 and trainer\.devices=2"),
        ({"trainer": {"devices": "0, 2"}}, r"devices is '0, 2'.*CUDA_VISIBLE_DEVICES=0,2 and trainer\.devices=2"),
        *(
            ({"trainer": {"devices": wrong}}, r"trainer\.devices is .*, allowed: auto or a whole number from 1 on")
            for wrong in ("0", "two", "a,", ",", [], [-1], [True], ["0"], True, None, 1.0)
        ),
        ({"trainer": {"accelerator": "gpu"}}, r"trainer\.accelerator is 'gpu', allowed.* \(torch sees no GPU here\)"),
        ({"trainer": {"accelerator": "tpu"}}, r"trainer\.accelerator is 'tpu', allowed with .*: auto, cpu"),
        ({"trainer": {"sync_batchnorm": True}}, r"trainer\.sync_batchnorm is true, allowed on CPUs"),
        ({"data": {"batch_size": 15}}, r"data\.batch_size is 15, which trainer\.devices=2 do not divide.*fits is 16"),
    ],
)
def test_what_cannot_be_is_refused_by_key(roots, message):
    with pytest.raises(ConfigError, match=message):
        plan_ranks(changed(**roots))


@pytest.mark.parametrize(
    ("roots", "message"),
    [
        ({"trainer": {"precision": "bf16-mixed"}}, r"trainer\.precision is 'bf16-mixed', allowed .*: 32-true"),
        ({"trainer": {"gradient_clip_algorithm": "value"}}, r"trainer\.gradient_clip_algorithm is 'value'.*: norm"),
        ({"optimizer": {"name": "adamw_factored"}}, r"optimizer\.name is 'adamw_factored', allowed .*: adamw"),
        ({"model": {"optimizer_offload": True}}, r"model\.optimizer_offload is true"),
        ({"runtime": {"rehearse": True}}, r"runtime\.rehearse is true"),
        *(
            ({"callbacks": {name: {"enabled": True, "_target_": target}}}, rf"set callbacks\.{name}\.enabled=false")
            for name, target in {
                "ema": "shared.callbacks.ema.EmaWeights",
                "sweet_spot": "shared.callbacks.sweet_spot.SweetSpotCheckpoint",
                "update_monitor": "shared.callbacks.update_monitor.UpdateMonitor",
                "gradient_norms": "shared.callbacks.gradient_norms.GradientNorms",
            }.items()
        ),
    ],
)
def test_what_weights_in_parts_cannot_do_is_refused_by_key(roots, message):
    plan_ranks(changed(**roots))  # with DDP it can be done
    with pytest.raises(ConfigError, match=message):
        plan_ranks(changed(**{**roots, "trainer": {"strategy": "fsdp", **roots.get("trainer", {})}}))


def test_a_callback_that_is_off_is_not_refused():
    node = {"ema": {"enabled": False, "_target_": "shared.callbacks.ema.EmaWeights"}}
    assert plan_ranks(changed(trainer={"strategy": "fsdp"}, callbacks=node)).is_sharded


def test_ranks_within_ranks_are_refused(monkeypatch):
    check_ranks(PLAIN)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(ConfigError, match="this SLURM job has 2 tasks, allowed: 1"):
        check_ranks(PLAIN)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="the environment has LOCAL_RANK, so another launcher"):
        check_ranks(PLAIN)
    check_ranks(changed(trainer={"devices": 1}))


def test_cores_are_shared_and_configured_threads_are_taken_as_they_are(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(9)))
    plan = plan_ranks(changed(trainer={"devices": 4}))
    assert threads_of_rank(None, plan) == 2
    assert threads_of_rank(5, plan) == 5
    assert threads_of_rank(None, plan_ranks(changed(trainer={"devices": 16}))) == 1
