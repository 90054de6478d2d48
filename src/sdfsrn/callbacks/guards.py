"""Callbacks that stop or warn: non-finite loss, no progress, collapsed shapes."""

from __future__ import annotations

import json
import pathlib

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from sdfsrn.structures import Views


class FiniteLoss(pl.Callback):
    """Stop before the optimizer's step if the loss is not finite, and write down the pictures of the batch.

    Args:
        folder: of `nonfinite.json`: the step, the loss and its terms, the pictures' names and positions in the split.

    Raises:
        FloatingPointError: the loss is not finite; names the file.
    """

    def __init__(self, folder: str) -> None:
        self.path = pathlib.Path(folder) / "nonfinite.json"
        self._batch: Views | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Store the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Check the loss before its gradients are computed."""
        if torch.isfinite(loss):
            return
        indices = [] if self._batch is None else self._batch.index.tolist()
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        names = [datamodule.dataset("train").source.names[i] for i in indices] if datamodule else []
        terms = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        report = {"step": trainer.global_step, "loss": str(float(loss)), "index": indices, "pictures": names}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**report, "terms": {name: str(value) for name, value in terms.items()}}, indent=2))
        raise FloatingPointError(
            f"The loss is {float(loss)} at step {trainer.global_step}; the batch's pictures are listed in {self.path}. "
            "Lower optimizer.lr, or look at these pictures and cameras."
        )


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping; a stopped run that was interrupted before its end does not train on when resumed."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the patience was used up before."""
        trainer.should_stop |= self.wait_count >= self.patience


class CollapseWarning(pl.Callback):
    """Warn when the shapes have collapsed: no ray inside any silhouette meets a surface.

    Args:
        patience: consecutive training steps without any surface; None takes the model's `empty_steps`.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self._empty = 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: Views,
        batch_idx: int,
    ) -> None:
        """Count steps in which no ray met a surface."""
        self._empty = 0 if outputs["hit"] > 0 else self._empty + 1
        if self._empty == (self.patience or pl_module.empty_steps):
            rank_zero_warn(
                f"Collapse: for {self._empty} steps no ray inside a silhouette has met a surface "
                f"(step {trainer.global_step}). Start again with another seed, a lower optimizer.lr, for SDF-SRN more "
                "callbacks.pretraining.iterations, or check that cameras and silhouettes belong together."
            )
