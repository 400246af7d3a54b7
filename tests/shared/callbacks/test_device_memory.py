import warnings

import lightning as L
import psutil
import pytest
import torch

from shared.callbacks import device_memory
from shared.callbacks.device_memory import DeviceMemory
from tests.fabricate.kept_logs import KeptLogs
from tests.fabricate.plain_fit import Plain, loader


def test_on_a_cpu_the_process_is_logged_each_epoch() -> None:
    logs = KeptLogs()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=logs, callbacks=[DeviceMemory()], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Plain(), loader())
    rows = [row for _, row in logs.rows if "system/process_memory_gb" in row]
    assert len(rows) == 2
    assert rows[-1].keys() == {"system/process_memory_gb"}
    assert rows[-1]["system/process_memory_gb"] == pytest.approx(psutil.Process().memory_info().rss / 1e9, rel=0.5)


def test_within_an_epoch_every_few_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(device_memory.time, "monotonic", lambda: now[0])
    logs, watch = KeptLogs(), DeviceMemory(every_minutes=2)
    trainer = type("Quiet", (), {"loggers": [logs], "global_step": 5})()
    watch.on_train_start(trainer, Plain())
    for seconds in (60, 59, 1, 1, 119):
        now[0] += seconds
        watch.on_train_batch_end(trainer, Plain(), None, None, 0)
    assert len(logs.rows) == 2


def test_on_a_gpu_memory_and_utilisation_and_one_warning_without_the_drivers_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2e9)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87)
    watch, gpu = DeviceMemory(), torch.device("cuda")
    assert watch._gpu(gpu) == {
        "system/gpu_memory_gb": 5.0,
        "system/gpu_memory_now_gb": 2.0,
        "system/gpu_utilisation_percent": 87.0,
    }

    def missing(device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    with pytest.warns(UserWarning, match="utilisation cannot be read and is left out: nvidia-ml-py"):
        assert "system/gpu_utilisation_percent" not in watch._gpu(gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch._gpu(gpu)


def test_a_wrong_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="every_minutes is 0, allowed: above 0"):
        DeviceMemory(every_minutes=0)
