"""The rows of a table as processes: one after the other, each with its log, where it ran, and how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.console import Console

from sdfsrn.cli.loading import pick_device
from sdfsrn.runtime.files import write_atomically
from sdfsrn.runtime.texts import read_json

RESULT = "test/summary.json"  # the last file that a row writes
SHOWN_LINES = 5  # of a failed row's log
POLL_SECONDS = 0.2


class Job(NamedTuple):
    """A command to run for a row of a table."""

    name: str
    module: str  # train or evaluate
    overrides: Sequence[str]
    folder: pathlib.Path
    trained: pathlib.Path  # the folder of the training that it is or evaluates
    config: DictConfig

    @property
    def trains(self) -> bool:
        """Whether it is a training of its own."""
        return self.module == "train"

    @property
    def summary(self) -> pathlib.Path:
        """File of its results."""
        return self.folder / RESULT

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return self.summary.is_file()

    @property
    def record(self) -> pathlib.Path:
        """File that says where it ran, and how long."""
        return self.folder / "run.json"

    @property
    def log(self) -> pathlib.Path:
        """File of its output."""
        return self.folder / "run.log"


def run(jobs: Sequence[Job], console: Console) -> dict[str, str]:
    """Run jobs in turn, with two lines each on the console; the reasons of those that failed, by name.

    SIGINT and SIGTERM are passed on to the running job, which saves; then the program ends with the signal's exit status.
    """
    failures = {}
    with _signals() as received:
        for number, job in enumerate(jobs, 1):
            title = f"{number}/{len(jobs)} {job.name}"
            console.print(f"{title}: running, see {job.log}", markup=False, highlight=False, soft_wrap=True)
            failure = _run(job, received)
            if failure is not None:
                failures[job.name] = failure
            console.print(f"{title}: {failure or 'done'}", markup=False, highlight=False, soft_wrap=True)
            if received:
                raise SystemExit(128 + received[0])
    return failures


def _run(job: Job, received: Sequence[int]) -> str | None:
    """Run a job, ended by signals as they come in `received`; the reason if it failed."""
    if not (job.trains or (job.trained / RESULT).is_file()):
        return f"it needs {job.trained.name} to be finished"
    job.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with job.log.open("ab") as log:
        if not _locked(log.fileno()):
            return "another process is running it"
        if job.finished:  # by the process that had the lock before
            return None
        command = [sys.executable, "-m", f"sdfsrn.{job.module}", *job.overrides]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        status = _wait(process, received)
    _note(job, time.monotonic() - start)
    if job.finished:
        return None
    return "\n".join([f"exit status {status}, see {job.name}/{job.log.name}", *last_lines(job.log)])


def _wait(process: subprocess.Popen[bytes], received: Sequence[int]) -> int:
    """The exit status of a process, to which every signal in `received`, also an earlier one, is passed on as SIGTERM."""
    passed = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_SECONDS)
        for _ in received[passed:]:
            process.terminate()
            passed += 1


def last_lines(path: pathlib.Path, count: int = SHOWN_LINES) -> list[str]:
    """The last lines of a log that are not empty; of a progress bar the last state."""
    lines = [line.rpartition("\r")[2].rstrip() for line in path.read_text(errors="replace").replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-count:]


def hardware(accelerator: str) -> str:
    """The device that Lightning's name of an accelerator means here: the GPU's name, the CPU's model and its cores."""
    device = pick_device(accelerator)
    processor = f"{_processor()} ({os.cpu_count()} cores)"
    return processor if device.type == "cpu" else f"{_gpu(device.type)}, {processor}"


def _processor() -> str:
    """The CPU's model."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def _gpu(kind: str) -> str:
    """The GPU's name, read in a process of its own, so that this one takes none of the GPU's memory."""
    if kind != "cuda":
        return kind
    code = "import torch; print(torch.cuda.get_device_name())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or kind


def _note(job: Job, seconds: float) -> None:
    """Add a call to a job's record."""
    before: dict[str, Any] = read_json(job.record) if job.record.is_file() else {}
    here = hardware(job.config.trainer.accelerator if job.trains else job.config.accelerator)
    record = {
        "command": ["python", "-m", f"sdfsrn.{job.module}", *job.overrides],
        "hardware": list(dict.fromkeys([*before.get("hardware", []), here])),
        "seconds": before.get("seconds", 0.0) + seconds,
        "torch": torch.__version__,
    }
    write_atomically(job.record, json.dumps(record, indent=2).encode())


def _locked(descriptor: int) -> bool:
    """Whether the file's lock could be taken; this process, or the one it starts, holds it as long as the file is open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list, in place of what they do otherwise."""
    received: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda number, _: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
