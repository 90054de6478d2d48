"""Values logged beside the losses: learning rate, gradient norms and throughput."""

from __future__ import annotations

import time

import pytorch_lightning as pl
import torch
from torch import Tensor

from sdfsrn.structures import Views


class LogOptimization(pl.Callback):
    """Log the `learning_rate`, and the gradient's Euclidean norm: `gradient/total`, and one per part of the model.

    They share a row of the log with the losses, unlike those of Lightning's LearningRateMonitor.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure the gradients before any clipping."""
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
    """Log `throughput/images_per_second` (of all processes) and `throughput/steps_per_second` since the last log step.

    Loading counts, validation does not. The GPU is not synchronised: its backlog at one log step counts at the next.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._paused: float | None = None
        self._restart(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock until training continues; callbacks that draw and save do not count either."""
        self._paused = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Restart the clock."""
        if self._paused is not None:
            self._since += time.perf_counter() - self._paused
            self._paused = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: dict[str, Tensor], batch: Views, batch_idx: int
    ) -> None:
        """Count images; at log steps, log the rates."""
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
    """Whether Lightning logs after this number of steps; never if `log_every_n_steps` is 0."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # which Lightning does not declare
    return interval > 0 and steps % interval == 0
