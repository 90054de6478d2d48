"""Many independent jobs on all cores, with a progress bar; one that fails does not stop the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any

from tqdm import tqdm


def run_jobs(
    function: Callable[..., None],
    jobs: Mapping[str, tuple[Any, ...]],
    description: str,
    num_workers: int | None = None,
    unit: str = "job",
) -> dict[str, str]:
    """Call `function(*arguments)` for every named job; the ValueErrors of those that failed, by name.

    Jobs run in processes of their own, as many as there are cores unless `num_workers` says otherwise (0 and 1: in this
    one), so `function` and the arguments must be picklable. Any other exception ends it all.
    """
    count = min(len(jobs), _cores() if num_workers is None else num_workers)
    failures: dict[str, str] = {}
    with tqdm(total=len(jobs), desc=description, unit=unit, mininterval=1, disable=not jobs) as progress:
        if count <= 1:
            for name, arguments in jobs.items():
                try:
                    function(*arguments)
                except ValueError as error:
                    failures[name] = str(error)
                progress.update()
            return failures
        # A fresh interpreter for each: a fork would inherit the locks of torch's threads.
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_begin) as pool:
            futures: dict[Future[None], str] = {pool.submit(function, *arguments): name for name, arguments in jobs.items()}
            try:
                for future in as_completed(futures):
                    try:
                        future.result()
                    except ValueError as error:
                        failures[futures[future]] = str(error)
                    progress.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return failures


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin() -> None:
    """One thread a process; Ctrl-C is the program's; and none outlives it, even if it is killed."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
