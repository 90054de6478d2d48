"""Leaving when somebody wants the machine: at once, where there is nothing to save, and back into SLURM's queue."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C; preemption; SLURM's warning before the time is up
GRACE = 120  # seconds that a worker lives after SIGTERM

log = logging.getLogger(__name__)


@contextlib.contextmanager
def exit_on_signal() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGUSR1 end the program without a traceback, with the signal's exit status (128 + its number).

    SIGUSR1 also puts a SLURM job back into the queue. A second signal does what it would have done without us. Signals that
    somebody listens to stay theirs: submitit's, and, while there are weights to save, `sdfsrn.callbacks.LastCheckpoint`'s.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    ours = threading.current_thread() is threading.main_thread()
    before = {number: handler for number in SIGNALS if ours and (handler := signal.getsignal(number)) in defaults}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def leave(number: int, frame: FrameType | None) -> None:
        restore()
        log.warning("%s: leaving.", signal.Signals(number).name)
        if number == signal.SIGUSR1:
            requeue()
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        restore()


def ignore_signals(worker: int = 0) -> None:
    """Let a loader's worker ignore_signals the signals that its whole process group gets: the step that runs still needs it.

    SIGTERM may also come from a program that ends, and works after a while.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


def requeue() -> None:
    """Put this process's SLURM job, if it is one, back into the queue; of a job's many processes the first one does."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("SLURM_PROCID", "0") != "0" or not re.fullmatch(r"[0-9_]+", job):
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        log.warning("SLURM job %s is queued again.", job)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("SLURM job %s could not be queued again: %s", job, error)
