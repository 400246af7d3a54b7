"""Shows a fit on the live page while it goes on: events to a hub, and some validation samples with their curves.

Works in any Lightning project: without the engine it writes its own `events.jsonl`, which `python -m shared.live`
reads.
"""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from shared.callbacks.run_log import model_facts
from shared.events import EventWriter
from shared.live.push import Pusher, Target
from shared.live.security import read_token

EVENTS_FILE = "events.jsonl"
MAX_SAMPLES = 16
MAX_SIDE_PX = 512

Hook = TypeVar("Hook", bound=Callable[..., None])


class LivePush(Callback):
    """Pushes what happens to a hub; whatever the hub does, the fit neither waits nor fails.

    The first `num_samples` samples of the validation loader are shown, of several ranks of rank 0's, which are the same
    in each epoch as long as that loader does not shuffle. They need a module whose `validation_step` returns
    {"prediction", "target"} and that says with `curve_axes()` what the curves are; batches with a binary "image" show
    it too. Other modules show no samples.

    Args:
        url: Address of the hub.
        token: What the hub asks for; None: the environment variable SWEETSPOT_LIVE_TOKEN, if it is set.
        start_hub: Start a hub where none answers, if `url` is this machine's loopback address; not within a Hydra
            multirun and not within tests. It ends after ten idle minutes.
        num_samples: Validation samples shown, 0 to 16.
        every_n_epochs: Epochs between two showings of them; the last epoch is always shown.
        queue_size: Events kept for the hub; beyond, the oldest are left to the file.
        dirpath: Where `events.jsonl` is written without the engine; None: the trainer's `default_root_dir`.
        outputs: Folder that a hub started from here shows; None: where `events.jsonl` stands. The engine sets it.
        events: The run's own writer, which the engine sets; None: this callback writes the events.

    Attributes:
        hook_s: Seconds that the hooks have taken in the training thread so far, those of the event listener included.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8600", token: str | None = None, start_hub: bool = True,
        num_samples: int = 4, every_n_epochs: int = 1, queue_size: int = 1000, dirpath: str | None = None, *,
        outputs: Path | None = None, events: EventWriter | None = None,
    ) -> None:  # fmt: skip
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        if not 0 <= num_samples <= MAX_SAMPLES:
            raise ValueError(f"num_samples must be 0 to {MAX_SAMPLES}, got {num_samples}")
        for name, value in (("every_n_epochs", every_n_epochs), ("queue_size", queue_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.url, self.token, self.start_hub = url, token, start_hub
        self.num_samples, self.every_n_epochs, self.queue_size = num_samples, every_n_epochs, queue_size
        self.dirpath, self.outputs, self.events = dirpath, outputs, events
        self.owns_events = events is None
        self._hook_s = 0.0
        self._pusher: Pusher | None = None
        self._samples: list[dict[str, Any]] = []
        self._num_kept = 0

    @property
    def hook_s(self) -> float:
        """Seconds taken from the training thread."""
        return self._hook_s + (0.0 if self._pusher is None else self._pusher.hook_s)

    @property
    def pusher(self) -> Pusher | None:
        """The sending side; None before the fit and on ranks other than the first."""
        return self._pusher

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to listen to the run's events."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        began = time.perf_counter()
        if self.events is None:
            folder = Path(self.dirpath or trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.events = EventWriter(folder / EVENTS_FILE, folder.name)
        if self._pusher is None:
            outputs = self.outputs or self.events.path.resolve().parents[1]
            token = self.token if self.token is not None else read_token(None)
            self._pusher = Pusher(self.events, Target(self.url, token, self.start_hub, outputs), self.queue_size)
            self.events.subscribe(self._pusher.listen)
        self._hook_s += time.perf_counter() - began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Connect; without the engine also announce the (re)start."""
        if self._pusher is None:
            return
        began = time.perf_counter()
        if self.owns_events:
            self._write(
                "start", trainer, max_epochs=trainer.max_epochs, batches_per_epoch=trainer.num_training_batches,
                **model_facts(pl_module),
            )  # fmt: skip
        self._pusher.begin()
        self._hook_s += time.perf_counter() - began

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Without the engine: a step event, ten times a second at most."""
        if self._pusher is None:
            return
        began = time.perf_counter()
        self._pusher.place = (trainer.global_step, trainer.current_epoch)
        assert self.events is not None
        if self.owns_events and self.events.step_is_due():
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            value = None if loss is None else _number(float(loss.detach()))
            self._write("step", trainer, loss=value, lr=_rate(trainer), batch=batch_idx)
        self._hook_s += time.perf_counter() - began

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the samples of the epoch before."""
        self._samples, self._num_kept = [], 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep the first samples where they are; a copy from a GPU would wait for it."""
        if self._num_kept >= self.num_samples or dataloader_idx or not self._is_shown(trainer, outputs):
            return
        began = time.perf_counter()
        count = min(self.num_samples - self._num_kept, len(outputs["prediction"]))
        kept = {key: outputs[key].detach()[:count].clone() for key in ("prediction", "target")}
        image = batch.get("image") if isinstance(batch, dict) else None
        if isinstance(image, torch.Tensor):
            kept["image"] = image.detach()[:count].clone()
        self._samples.append(kept)
        self._num_kept += count
        self._hook_s += time.perf_counter() - began

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the samples; the pass has just been waited for, for its metrics."""
        axes = getattr(pl_module, "curve_axes", None)
        described = axes() if callable(axes) else None
        if not self._samples or described is None:
            return
        began = time.perf_counter()
        index = 0
        for part in self._samples:
            arrays = {key: value.float().cpu().numpy() for key, value in part.items()}
            for row in range(len(arrays["prediction"])):
                image = arrays["image"][row] if "image" in arrays else None
                self._write(
                    "sample",
                    trainer,
                    **sample_data(index, image, arrays["target"][row], arrays["prediction"][row], described),
                )
                index += 1
        self._samples = []
        self._hook_s += time.perf_counter() - began

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without the engine: the epoch's metrics."""
        if self._pusher is None or not self.owns_events:
            return
        began = time.perf_counter()
        metrics = {key: _number(float(value)) for key, value in trainer.callback_metrics.items()}
        self._write("epoch", trainer, **metrics, lr=_rate(trainer))
        self._hook_s += time.perf_counter() - began

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The fit has ended early; without the engine an event says so."""
        if self._pusher is None:
            return
        if self.owns_events:
            self._finish(trainer, "interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")
        self._pusher.release()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the cost for the `end` event, and without the engine write that."""
        if self._pusher is None:
            return
        assert self.events is not None
        self.events.closing["live_push"] = self.cost()
        if self.owns_events:
            self._finish(trainer, "done")
        self._pusher.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The thread ends by itself; later events of the run bring it back for as long as they take."""
        if self._pusher is not None and stage == "fit":
            self._pusher.release()

    def cost(self) -> dict[str, float]:
        """Seconds in the hooks so far, and what the sending thread has met."""
        if self._pusher is None:
            return {}
        found = {"hook_s": round(self.hook_s, 4), "dropped": self._pusher.dropped, "errors": self._pusher.errors}
        return {key: float(value) for key, value in found.items()}

    def _finish(self, trainer: Trainer, state: str) -> None:
        assert self.events is not None
        assert self._pusher is not None
        self.events.closing["live_push"] = self.cost()
        self._write("end", trainer, state=state)
        self._pusher.release()

    def _write(self, kind: str, trainer: Trainer, **data: Any) -> None:
        assert self.events is not None
        self.events.write(kind, trainer.global_step, trainer.current_epoch, **data)

    def _is_shown(self, trainer: Trainer, outputs: Any) -> bool:
        if self._pusher is None or trainer.sanity_checking or not isinstance(outputs, dict):
            return False
        if not all(isinstance(outputs.get(key), torch.Tensor) for key in ("prediction", "target")):
            return False
        epoch = trainer.current_epoch
        is_last = trainer.max_epochs is not None and epoch + 1 >= trainer.max_epochs
        return is_last or epoch % self.every_n_epochs == 0


def sample_data(
    index: int, image: "np.ndarray[Any, Any] | None", target: "np.ndarray[Any, Any]",
    prediction: "np.ndarray[Any, Any]", axes: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Data of a `sample` event.

    Args:
        index: Position of the sample in the validation loader.
        image: (1, H, W) with values 0 and 1; left out where it has others, is not square, or is wider than 512 px.
        target: (*channels, L).
        prediction: (*channels, L).
        axes: {"channels": names, "axis": {"name", "unit", "values"}}, see `BaseModule.curve_axes`.
    """
    length = target.shape[-1]
    curves = {"target": target.reshape(-1, length), "prediction": prediction.reshape(-1, length)}
    rounded = {name: [[_short(value) for value in curve] for curve in rows.tolist()] for name, rows in curves.items()}
    return {
        "index": index,
        "image": _packed(image),
        "channels": list(axes["channels"]),
        "axis": dict(axes["axis"]),
        **rounded,
    }


def _packed(image: "np.ndarray[Any, Any] | None") -> dict[str, Any] | None:
    if image is None or image.ndim < 2 or image.size != image.shape[-1] ** 2 or not 0 < image.shape[-1] <= MAX_SIDE_PX:
        return None
    levels = np.unique(image)
    if len(levels) > 2 or (len(levels) and not np.isin(levels, (0.0, 1.0)).all()):
        return None
    bits = np.packbits(image.reshape(-1).astype(np.uint8))
    return {"side": int(image.shape[-1]), "bits": base64.b64encode(bits.tobytes()).decode("ascii")}


def _short(value: float) -> float | None:
    """Five significant digits; JSON has no NaN."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rate(trainer: Trainer) -> float | None:
    return float(trainer.optimizers[0].param_groups[0]["lr"]) if trainer.optimizers else None
