"""Many independent jobs on all cores, with a progress bar; one that fails does not stop the others."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import joblib

from sdfsrn.runtime.progress import track

_POLL_SECONDS = 1.0


def run_jobs(
    function: Callable[..., str | None],
    jobs: Mapping[str, tuple[Any, ...]],
    description: str,
    num_workers: int | None = None,
    unit: str = "jobs",
    notes: dict[str, str] | None = None,
) -> dict[str, str]:
    """Call `function(*arguments)` for every named job; the ValueErrors of those that failed, by name.

    What the others return, if it is not None, is put into `notes`.
    Jobs run in `num_workers` processes of their own, by default one per core; with 0 or 1 in this one. The first exception
    that is no ValueError ends all jobs and is raised.
    """
    count = max(1, min(len(jobs), joblib.cpu_count() if num_workers is None else num_workers))
    calls = (joblib.delayed(_attempt)(os.getpid(), name, function, arguments) for name, arguments in jobs.items())
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        ended = joblib.Parallel(count, return_as="generator_unordered", batch_size=1)(calls)
        failures = {}
        for name, failure, note in track(ended, description, len(jobs), unit):
            if failure is not None:
                failures[name] = failure
            if note is not None and notes is not None:
                notes[name] = note
        return failures


def _attempt(
    program: int, name: str, function: Callable[..., str | None], arguments: tuple[Any, ...]
) -> tuple[str, str | None, str | None]:
    """The job's name, the message of its ValueError if it failed, its result; `program` is the process that started it."""
    if os.getpid() != program:
        _follow(program)
    try:
        return name, None, function(*arguments)
    except ValueError as error:
        return name, str(error), None


@functools.cache
def _follow(program: int) -> None:
    """End this worker when the program ends, even by SIGKILL; Ctrl-C is the program's. joblib does neither."""

    def wait() -> None:
        while os.getppid() == program:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True).start()
