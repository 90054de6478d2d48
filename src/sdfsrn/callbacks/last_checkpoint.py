"""Checkpoint of the last state: saved at validations, at the end, and on signals that stop the run."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from sdfsrn.runtime.signals import SIGNALS, requeue
from sdfsrn.structures import Views

AGREEMENT = 10  # steps between two exchanges among processes about received signals

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Save `last.ckpt` after validations, at the end of training, and when a signal stops the run.

    On Ctrl-C, SIGTERM and SIGUSR1 the running step or validation is completed, saved, and the program exits with 128 + the
    signal's number; a second signal exits at once. Under SLURM, SIGUSR1 also requeues the job (`sbatch --signal=USR1@90`).

    Args:
        folder: of the file.
        every_n_steps: interval of further saves; None makes none.
    """

    def __init__(self, folder: str, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"Expected a positive every_n_steps of the last checkpoint, got {every_n_steps}.")
        self.path = pathlib.Path(folder) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._signal: int | None = None
        self._before: dict[int, Any] = {}
        self._saved: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers."""
        self._signal = None
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Save if due or if a signal arrived; before a batch, when the previous step is complete and logged."""
        stop = self._stop_requested(trainer)
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if (stop or due) and trainer.global_step not in (0, self._saved):
            with _before_batch(trainer):
                self._save(trainer)
        if stop:
            self._exit(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, after the callbacks that come before this one."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the steps since the last validation; exit if a signal arrived."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        if trainer.world_size == 1 and self._signal is not None:
            self._exit(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the earlier signal handlers, unless Lightning has done so."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._receive:
                signal.signal(number, handler)
        self._before = {}

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # which Lightning does not declare
            return
        for logger in trainer.loggers:
            logger.save()  # so that the logs are never behind the checkpoint
        trainer.save_checkpoint(self.path)
        self._saved = trainer.global_step

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise SystemExit(128 + number)
        self._signal = number
        log.warning("%s: saving after this step; once more to exit at once.", signal.Signals(number).name)

    def _stop_requested(self, trainer: pl.Trainer) -> bool:
        """Whether a process received a signal; with several, they exchange this every AGREEMENT steps."""
        received = self._signal is not None
        if trainer.world_size == 1:
            return received
        return trainer.global_step % AGREEMENT == 0 and trainer.strategy.reduce_boolean_decision(received, all=False)

    def _exit(self, trainer: pl.Trainer) -> None:
        number = self._signal or signal.SIGTERM
        if trainer.is_global_zero:
            log.warning("Saved step %d; go on from it with ckpt_path=%s", trainer.global_step, self.path)
        before = self._before.get(number)
        self.teardown(trainer, trainer.lightning_module, "fit")
        if number == signal.SIGUSR1 and "SUBMITIT_EXECUTOR" in os.environ and callable(before):
            before(number, None)  # requeues the job, and exits
        elif number == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _before_batch(trainer: pl.Trainer) -> Iterator[None]:
    """Context in which the loop's counters have their values of before the batch that starts."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for counters in (progress.current, progress.total):
        counters.ready -= 1
    yield
    for counters in (progress.current, progress.total):
        counters.ready += 1
