"""Whoever wants the machine gets it: a clean end in every stage of a command, and a place in SLURM's queue."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sdfsrn.checkpoints.loading import read_checkpoint
from sdfsrn.runtime.signals import SIGNALS, exit_on_signal, requeue
from tiny import MODEL, PICTURES

TINY = [
    *PICTURES,
    *MODEL,
    "data.num_objects=4",
    "data.num_eval_objects=1",
    "data.shapes.views_per_object=1",
    "data.batch_size=4",
    "callbacks.pretraining.num_points=64",
    "callbacks.pictures=null",
    "trainer=cpu",
    "test=false",
    "hydra.run.dir=run",
]


@pytest.fixture
def queue(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The file to which a program in scontrol's place writes how it was called."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "called"


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "71"}, "71"),
        ({"SLURM_JOB_ID": "71", "SLURM_PROCID": "0"}, "71"),
        ({"SLURM_JOB_ID": "71", "SLURM_PROCID": "3"}, None),
        ({"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "12"}, "9_3"),
        ({"SLURM_JOB_ID": "7; rm"}, None),
        ({}, None),
    ],
)
def test_slurm_jobs_are_queued_again(
    environment: dict[str, str], job: str | None, queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requeue()
    assert (queue.read_text() if queue.is_file() else None) == (None if job is None else f"requeue {job}\n")


@pytest.fixture
def untouched() -> Iterator[None]:
    """Signals as a program in a terminal finds them."""
    defaults = dict.fromkeys(SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("number", SIGNALS)
def test_leaving_and_what_was_before(number: signal.Signals, queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with pytest.raises(SystemExit) as end, exit_on_signal():
        signal.raise_signal(number)
    assert end.value.code == 128 + number
    assert {each: signal.getsignal(each) for each in SIGNALS} == before
    assert queue.is_file() == (number == signal.SIGUSR1)


def test_whoever_listens_already_goes_on_listening() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with exit_on_signal():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def start(folder: pathlib.Path, *overrides: str) -> subprocess.Popen:
    """A training in a process group of its own, as in a terminal, under SLURM."""
    environment = {**os.environ, "SDFSRN_CACHE": str(folder / "cache"), "SLURM_JOB_ID": "71"}
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME"):  # with these Lightning asks SLURM
        environment.pop(name, None)
    with (folder / "output").open("w") as output:
        command = [sys.executable, "-m", "sdfsrn.train", *TINY, *overrides]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_listen
        )


def _listen() -> None:
    """As in a terminal: what a shell starts in the background, perhaps these tests, ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(process: subprocess.Popen, number: int, file: pathlib.Path, text: str = "") -> None:
    """Signal the group as soon as a file holds some text, and wait for its end."""
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline and not (file.is_file() and text in file.read_text()):
            time.sleep(0.1)
        os.killpg(process.pid, number)
        assert process.wait(120) == 128 + number
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_run_leaves_where_there_is_nothing_to_save(number: int, tmp_path: pathlib.Path, queue: pathlib.Path) -> None:
    process = start(tmp_path, "callbacks.pretraining.iterations=1000000")
    stop(process, number, tmp_path / "output", "Sphere pretraining")
    assert "Traceback" not in (tmp_path / "output").read_text()
    assert queue.is_file() == (number == signal.SIGUSR1)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_is_told_once(number: signal.Signals, tmp_path: pathlib.Path) -> None:
    """As a terminal's Ctrl-C and SLURM's are: the step that runs needs its workers."""
    steps = ["trainer.max_steps=1000000", "trainer.val_check_interval=1000000", "data.num_workers=2"]
    process = start(tmp_path, "callbacks.pretraining.iterations=2", *steps)
    stop(process, number, tmp_path / "run" / "csv" / "metrics.csv")
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output
    assert output.count(f"{number.name}: saving after this step") == 1
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] > 0
