"""The progress bar of a training."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl

from sdfsrn.runtime.progress import Progress
from sdfsrn.structures import Views


class ProgressBar(pl.callbacks.ProgressBar):
    """One bar over all steps of a training: time left, the loss, and the last validation.

    Values are read from the device only when the bar is drawn, since a GPU is waited for then.

    Args:
        metric: of the validations, to be shown; None shows none.
    """

    def __init__(self, metric: str | None = None) -> None:
        super().__init__()
        self.metric = metric
        self._enabled = True
        self._validated: dict[str, float] = {}
        self._progress: Progress | None = None

    def disable(self) -> None:
        """Draw nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Draw."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the step where training starts or is resumed."""
        if self._enabled:
            total = trainer.estimated_stepping_batches
            self._progress = Progress(
                "Training", None if math.isinf(total) else int(total), "steps", trainer.global_step, keep=True
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Views, batch_idx: int
    ) -> None:
        """Count a step."""
        self._update(trainer, None)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Views,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say how far the validation is."""
        self._update(trainer, f"Validating {batch_idx + 1}/{self._count(trainer)}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the metric."""
        value = trainer.callback_metrics.get(self.metric or "")
        if value is not None and not trainer.sanity_checking:
            self._validated = {str(self.metric): float(value)}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar with the last values."""
        if self._progress is not None:
            self._progress.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the bar without reading values, which a device may no longer give."""
        if self._progress is not None:
            self._progress.update(trainer.global_step)
            self._progress.close()

    def _update(self, trainer: pl.Trainer, label: str | None) -> None:
        if self._progress is not None:
            self._progress.update(trainer.global_step, lambda: self._note(trainer), label)

    def _note(self, trainer: pl.Trainer) -> str:
        loss = trainer.callback_metrics.get("train/loss")
        values = ({} if loss is None else {"loss": float(loss)}) | self._validated
        return ", ".join(f"{name} {value:.4g}" for name, value in values.items())

    @staticmethod
    def _count(trainer: pl.Trainer) -> int:
        return int(sum(trainer.num_val_batches))
