"""The progress bar."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

REFRESH_SECONDS = 0.5


class ProgressBar(pl.callbacks.TQDMProgressBar):
    """Lightning's bar, which asks for the loss twice a second instead of at each step, since a GPU is waited for then."""

    def __init__(self) -> None:
        super().__init__()
        self._asked, self._metrics = float("-inf"), dict[str, Any]()

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The values beside the bar."""
        if time.monotonic() - self._asked > REFRESH_SECONDS:
            loss = trainer.callback_metrics.get("train/loss")
            self._metrics = super().get_metrics(trainer, pl_module) | ({} if loss is None else {"loss": float(loss)})
            self._asked = time.monotonic()
        return self._metrics
