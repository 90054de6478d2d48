"""Folders of runs: one process in each, and a new one for every run that is named by the time."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sdfsrn.runtime.locks import try_lock

COMMAND = """
import sys, time
from hydra.core.hydra_config import HydraConfig
from sdfsrn.cli.command import command
def task(config):
    print(HydraConfig.get().runtime.output_dir, flush=True)
    time.sleep(config.seed)
command("train")(task)()
"""


def start(*arguments: str, cwd: pathlib.Path, **environment: str) -> subprocess.Popen[str]:
    """A command that tells its folder and runs for as many seconds as its seed says."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def running(tmp_path: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    process = start("hydra.run.dir=run", "seed=300", cwd=tmp_path)
    assert process.stdout.readline().strip() == str(tmp_path / "run")
    yield process
    process.kill()
    process.wait()


def test_a_folder_is_of_one_process_while_it_lives(running: subprocess.Popen[str], tmp_path: pathlib.Path) -> None:
    """The second is refused before it writes anything; other processes of the same training are not; a stopped one still runs."""
    running.send_signal(signal.SIGSTOP)
    configuration = (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    second = start("hydra.run.dir=run", "seed=0", cwd=tmp_path)
    error = second.communicate(timeout=60)[1]
    assert second.returncode == 1
    assert re.fullmatch(r"error: Expected a folder without a running process, but one runs in run: .*\n", error)
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_text() == configuration
    third = start("hydra.run.dir=run", "seed=0", "hydra.output_subdir=null", cwd=tmp_path, LOCAL_RANK="1")
    assert third.wait(60) == 0
    running.kill()
    running.wait()
    assert start("hydra.run.dir=run", "seed=0", cwd=tmp_path).wait(60) == 0


def test_a_sweeps_folder_and_those_of_its_jobs_are_of_one_process(
    running: subprocess.Popen[str], tmp_path: pathlib.Path
) -> None:
    for sweep in ("run", "."):  # the sweep's own, and that of its job `run`
        second = start("-m", f"hydra.sweep.dir={sweep}", "hydra.sweep.subdir=run", "seed=0", cwd=tmp_path)
        assert "error: Expected a folder without a running process" in second.communicate(timeout=60)[1]
        assert second.returncode == 1


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: pathlib.Path) -> None:
    """Sweeps too; `%Y` makes the second a year."""
    name = "${paths.root}/a b/${now:%Y}"
    runs = [start(f"hydra.run.dir={name}", "seed=0", cwd=tmp_path) for _ in range(3)]
    folders = {process.communicate(timeout=120)[0].strip() for process in runs}
    year = str(tmp_path / "outputs" / "a b" / time.strftime("%Y"))
    assert folders == {year, f"{year}_2", f"{year}_3"}
    sweep = start("-m", f"hydra.sweep.dir={name}", "seed=0,0", cwd=tmp_path)
    jobs = [line for line in sweep.communicate(timeout=120)[0].splitlines() if line.startswith("/")]
    assert jobs == [f"{year}_4/0", f"{year}_4/1"]


def test_a_forked_process_does_not_keep_a_lock(tmp_path: pathlib.Path) -> None:
    """As a loader's worker, which outlives a killed training for some seconds."""
    code = (
        "import os, pathlib, time; from sdfsrn.runtime.locks import try_lock;"
        f"assert try_lock(pathlib.Path({str(tmp_path / 'lock')!r}));"
        "worker = os.fork(); (print(worker, flush=True) if worker else None); time.sleep(300)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    try:
        assert not try_lock(tmp_path / "lock")
        process.kill()
        process.wait()
        assert try_lock(tmp_path / "lock")
        assert try_lock(tmp_path / "lock")
        os.kill(worker, 0)
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)
