"""Numbers beside the losses, at log steps only: learning rate, norms of the gradients, and how fast training goes."""

from __future__ import annotations

import time

import pytorch_lightning as pl
import torch
from torch import Tensor

from sdfsrn.structures import Views


class LogOptimization(pl.Callback):
    """Logs the `learning_rate`, and the gradient's Euclidean norm: `gradient/total`, and over every part of the model.

    They share a row of the log with the losses, which Lightning's LearningRateMonitor would not.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure, before any clipping."""
        if not _is_log_step(trainer, trainer.global_step + 1):
            return
        gradients = {
            name: [p.grad.norm() for p in part.parameters() if p.grad is not None] for name, part in pl_module.named_children()
        }
        norms = {name: torch.stack(values).norm() for name, values in gradients.items() if values}
        if norms:
            norms["total"] = torch.stack(list(norms.values())).norm()
        rates = {f"learning_rate{i or ''}": group["lr"] for i, group in enumerate(optimizer.param_groups)}
        pl_module.log_dict(rates | {f"gradient/{name}": norm for name, norm in norms.items()})


class LogThroughput(pl.Callback):
    """Logs `throughput/images_per_second` (of all processes) and `throughput/steps_per_second` since the log step before.

    Loading counts, validation does not. Nothing waits for a GPU: what it still has to do at one log step is done at the next.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._paused: float | None = None
        self._restart(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock, until training goes on: also while others draw and save."""
        self._paused = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Let the clock go on."""
        if self._paused is not None:
            self._since += time.perf_counter() - self._paused
            self._paused = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: dict[str, Tensor], batch: Views, batch_idx: int
    ) -> None:
        """Count; at log steps, divide by the time."""
        self._images += len(batch.image) * trainer.world_size
        steps = trainer.global_step - self._step
        if steps == 0 or not _is_log_step(trainer, trainer.global_step):
            return
        elapsed = time.perf_counter() - self._since
        pace = {"images_per_second": self._images / elapsed, "steps_per_second": steps / elapsed}
        pl_module.log_dict({f"throughput/{name}": value for name, value in pace.items()})
        self._restart(trainer)

    def _restart(self, trainer: pl.Trainer) -> None:
        self._since, self._step, self._images = time.perf_counter(), trainer.global_step, 0


def _is_log_step(trainer: pl.Trainer, steps: int) -> bool:
    """Lightning writes the log after so many steps; never if told 0."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # which Lightning does not declare
    return interval > 0 and steps % interval == 0
