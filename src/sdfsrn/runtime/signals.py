"""Signals: ending a program at once where there is nothing to save, and requeueing its SLURM job."""

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
    """End the program on Ctrl-C, SIGTERM or SIGUSR1, without a traceback, with exit status 128 + the signal's number.

    SIGUSR1 also requeues a SLURM job. A second signal has its default effect. Handlers that are installed already stay, such
    as submitit's; `sdfsrn.callbacks.LastCheckpoint` installs its own while there are weights to save.
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
    """Make a loader's worker ignore signals to its process group, since the running step still needs the worker.

    SIGTERM, which a program that ends may send, takes effect after GRACE seconds.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


def requeue() -> None:
    """Requeue this process's SLURM job, if it belongs to one and is its first process."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("SLURM_PROCID", "0") != "0" or not re.fullmatch(r"[0-9_]+", job):
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        log.warning("SLURM job %s is queued again.", job)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("SLURM job %s could not be queued again: %s", job, error)
