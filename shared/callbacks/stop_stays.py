"""An early stop stays one: a run killed between its last epoch and the record of it does not train on."""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class StopStays(Callback):
    """Ends a resumed fit at once if early stopping had ended it; Lightning forgets `should_stop` and would go on."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what the checkpoint says of each early stopping."""
        callbacks = trainer.early_stopping_callbacks
        if any(isinstance(callback, EarlyStopping) and callback.stopped_epoch > 0 for callback in callbacks):
            trainer.should_stop = True
