"""Callbacks that stop or warn: non-finite loss, no progress, collapsed shapes."""

from __future__ import annotations

import collections
import json
import math
import pathlib
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from sdfsrn.runtime.readback import Readback
from sdfsrn.structures import Views


class _Step(NamedTuple):
    """A step whose loss is to be checked."""

    number: int
    loss: Readback
    pictures: Tensor  # their numbers in the split
    terms: dict[str, Tensor] | None = None  # None: those that the trainer has logged


class FiniteLoss(pl.Callback):
    """Stop if the loss is not finite, and write down the pictures of the batch; the weights stay as they were before the step.

    On a CUDA device the check comes `lag` steps later, so that the host does not wait for the device: fused Adam and AdamW
    leave their step out by a flag, after that of other optimizers the weights get their old values back. Elsewhere the check
    comes before the gradients are computed.

    Args:
        folder: of `nonfinite.json`: the step, the loss and its terms, the pictures' names and positions in the split.
        lag: how many steps the host may be ahead of the check.

    Raises:
        FloatingPointError: the loss is not finite; names the file.
    """

    def __init__(self, folder: str, lag: int = 2) -> None:
        self.path = pathlib.Path(folder) / "nonfinite.json"
        self.lag = lag
        self._batch: Views | None = None
        self._unchecked: collections.deque[_Step] = collections.deque()
        self._spoiled = torch.tensor(False)  # whether the step's loss is not finite, on the device
        self._before: list[tuple[Tensor, Tensor]] = []  # weights, and their values before the step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Store the batch, and check the step of `lag` steps ago."""
        self._batch = batch
        while len(self._unchecked) > self.lag:
            self._check(trainer, self._unchecked.popleft())

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Check the loss, or have it checked later."""
        index = torch.zeros(0, dtype=torch.long) if self._batch is None else self._batch.index
        step = _Step(trainer.global_step, Readback(loss), index.clone())
        if not loss.is_cuda:
            return self._check(trainer, step)
        self._spoiled = ~torch.isfinite(loss.detach())
        self._unchecked.append(step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Have the optimizer's step left out if the loss is not finite, or keep the weights."""
        if not self._unchecked:
            return
        if _can_leave_out(optimizer):
            optimizer.found_inf = self._spoiled.float()  # type: ignore[attr-defined]  # which Adam looks for
        else:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            self._before = [(weight.detach(), weight.detach().clone()) for weight in weights]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: Views,
        batch_idx: int,
    ) -> None:
        """Give weights their old values back after a loss that is not finite; keep the terms of a step to be checked."""
        for weight, before in self._before:
            weight.copy_(torch.where(self._spoiled, before, weight))
        self._before = []
        if self._unchecked:
            terms = {f"train/{name}": value for name, value in outputs.items()}
            self._unchecked.append(self._unchecked.pop()._replace(terms=terms))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check all steps so far, before anything is saved."""
        self._check_all(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last steps."""
        self._check_all(trainer)

    def _check_all(self, trainer: pl.Trainer) -> None:
        while self._unchecked:
            self._check(trainer, self._unchecked.popleft())

    def _check(self, trainer: pl.Trainer, step: _Step) -> None:
        loss = float(step.loss.value())
        if math.isfinite(loss):
            return
        indices = step.pictures.tolist()
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        names = [datamodule.dataset("train").source.names[i] for i in indices] if datamodule else []
        report = {"step": step.number, "loss": str(loss), "index": indices, "pictures": names}
        logged = trainer.callback_metrics if step.terms is None else step.terms
        terms = {name: str(float(value)) for name, value in logged.items() if name.startswith("train/")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**report, "terms": terms}, indent=2))
        raise FloatingPointError(
            f"The loss is {loss} at step {step.number}; the batch's pictures are listed in {self.path}. "
            "Lower optimizer.lr, or look at these pictures and cameras."
        )


def _can_leave_out(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer skips its step where its attribute `found_inf` is 1, as torch's fused ones do."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)


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
        self._empty: Tensor | None = None  # steps without a surface, on the model's device
        self._count: Readback | None = None  # of these, on its way to the host
        self._steps, self._warned = 0, False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: Views,
        batch_idx: int,
    ) -> None:
        """Count steps in which no ray met a surface; of a CUDA device, look at the count every few steps, one step later."""
        patience = self.patience or int(pl_module.empty_steps)  # type: ignore[arg-type]
        hit = outputs["hit"].detach()
        self._empty = torch.where(hit > 0, 0, (torch.zeros_like(hit) if self._empty is None else self._empty) + 1)
        self._steps += 1
        if not hit.is_cuda:
            return self._warn(trainer, int(self._empty), patience)
        if self._count is not None:
            self._warn(trainer, int(self._count.value()), patience)
        self._count = Readback(self._empty) if self._steps % patience == 0 else None

    def _warn(self, trainer: pl.Trainer, empty: int, patience: int) -> None:
        before, self._warned = self._warned, empty >= patience
        if self._warned and not before:
            rank_zero_warn(
                f"Collapse: for {empty} steps no ray inside a silhouette has met a surface (step {trainer.global_step}). "
                "Start again with another seed, a lower optimizer.lr, more callbacks.pretraining.iterations (SDF-SRN), or "
                "check that cameras and silhouettes belong together."
            )
