"""The newest state of a run on disk: at every validation, at the end, and when somebody wants the machine."""

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

AGREEMENT = 10  # steps between questions to the other processes whether one of them got a signal

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: written after validations, at the end of training, and when a signal asks the run to stop.

    Ctrl-C, SIGTERM and SIGUSR1 let the running step, or validation, end, save, and leave with the signal's exit status (128 +
    its number); a second one does not wait. Under SLURM, SIGUSR1 also puts the job back into the queue
    (`sbatch --signal=USR1@90`).

    Args:
        folder: of the file.
        every_n_steps: also every so many steps; None does not.
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
        """Listen."""
        self._signal = None
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Now that the step before is wholly done and logged, save it if it is time, and leave when told to."""
        told = self._told(trainer)
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if (told or due) and trainer.global_step not in (0, self._saved):
            with _before_batch(trainer):
                self._save(trainer)
        if told:
            self._leave(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, after the callbacks before this one had their turn."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save steps that came after the last validation; leave if told to, before anything else begins."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        if trainer.world_size == 1 and self._signal is not None:
            self._leave(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave signals to whoever had them before; Lightning may have done so already, with those that it found."""
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
        log.warning("%s: saving after this step; once more to leave at once.", signal.Signals(number).name)

    def _told(self, trainer: pl.Trainer) -> bool:
        told = self._signal is not None
        if trainer.world_size == 1:
            return told
        return trainer.global_step % AGREEMENT == 0 and trainer.strategy.reduce_boolean_decision(told, all=False)

    def _leave(self, trainer: pl.Trainer) -> None:
        number = self._signal or signal.SIGTERM
        if trainer.is_global_zero:
            log.warning("Saved step %d; go on from it with ckpt_path=%s", trainer.global_step, self.path)
        before = self._before.get(number)
        self.teardown(trainer, trainer.lightning_module, "fit")
        if number == signal.SIGUSR1 and "SUBMITIT_EXECUTOR" in os.environ and callable(before):
            before(number, None)  # it queues the job again, and leaves
        elif number == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _before_batch(trainer: pl.Trainer) -> Iterator[None]:
    """The loop's counters as they were before the batch that is about to start."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for counters in (progress.current, progress.total):
        counters.ready -= 1
    yield
    for counters in (progress.current, progress.total):
        counters.ready += 1
