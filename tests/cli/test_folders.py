"""Folders of runs: one process in each, and a new one for every run that is named by the time."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from sdfsrn.cli.command import command
from sdfsrn.runtime.locks import try_lock


class Started(NamedTuple):
    """A command in a process of its own."""

    process: multiprocessing.process.BaseProcess
    told: multiprocessing.connection.Connection  # the folders of its runs, and last how it ended

    def answers(self) -> list[str | None]:
        """All that it tells until its end."""
        found = []
        while not found or str(found[-1]).startswith("/"):
            assert self.told.poll(120)
            found.append(self.told.recv())
        self.process.join()
        return found


def start(*arguments: str, cwd: pathlib.Path, rank: int = 0) -> Started:
    """A command that runs for as many seconds as its seed says."""
    here, there = multiprocessing.get_context("fork").Pipe()

    def main() -> None:
        def task(config: DictConfig) -> None:
            there.send(HydraConfig.get().runtime.output_dir)
            time.sleep(config.seed)

        os.chdir(cwd)
        sys.argv, rank_zero_only.rank = ["train", *arguments], rank
        end = None
        try:
            command("train")(task)()
        except SystemExit as error:
            end = error.code
        there.send(end)

    process = multiprocessing.get_context("fork").Process(target=main)
    process.start()
    return Started(process, here)


@pytest.fixture
def running(tmp_path: pathlib.Path) -> Iterator[multiprocessing.process.BaseProcess]:
    process, told = start("hydra.run.dir=run", "seed=300", cwd=tmp_path)
    assert told.recv() == str(tmp_path / "run")
    yield process
    process.kill()
    process.join()


def test_a_folder_is_of_one_process_while_it_lives(
    running: multiprocessing.process.BaseProcess, tmp_path: pathlib.Path
) -> None:
    """The second is refused before it writes anything; other processes of one training are not; a stopped one still runs."""
    os.kill(running.pid, signal.SIGSTOP)
    configuration = (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    (end,) = start("hydra.run.dir=run", "seed=0", cwd=tmp_path).answers()
    assert re.fullmatch("error: Expected a folder without a running process, but one runs in run: .*", end)
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_text() == configuration
    assert start("hydra.run.dir=run", "seed=0", cwd=tmp_path, rank=1).answers() == [str(tmp_path / "run"), None]
    running.kill()
    running.join()
    assert start("hydra.run.dir=run", "seed=0", cwd=tmp_path).answers() == [str(tmp_path / "run"), None]


@pytest.mark.parametrize("sweep", ["run", "."], ids=["its own", "of its job"])
def test_a_sweep_does_not_write_to_a_running_folder(
    sweep: str, running: multiprocessing.process.BaseProcess, tmp_path: pathlib.Path
) -> None:
    (end,) = start("-m", f"hydra.sweep.dir={sweep}", "hydra.sweep.subdir=run", "seed=0", cwd=tmp_path).answers()
    assert end.startswith("error: Expected a folder without a running process")


@pytest.mark.slow
def test_runs_of_one_second_have_folders_of_their_own(tmp_path: pathlib.Path) -> None:
    """Sweeps too; `%Y` makes the second a year."""
    name = "${paths.root}/a b/${now:%Y}"
    runs = [start(f"hydra.run.dir={name}", "seed=0", cwd=tmp_path) for _ in range(3)]
    year = str(tmp_path / "outputs" / "a b" / time.strftime("%Y"))
    assert sorted(run.answers()[0] for run in runs) == [year, f"{year}_2", f"{year}_3"]
    sweep = start("-m", f"hydra.sweep.dir={name}", "seed=0,0", cwd=tmp_path)
    assert sweep.answers() == [f"{year}_4/0", f"{year}_4/1", None]


def test_a_forked_process_does_not_keep_a_lock(tmp_path: pathlib.Path) -> None:
    """As a loader's worker, which outlives a killed training for some seconds."""
    lock, context = tmp_path / "lock", multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def hold() -> None:
        assert try_lock(lock)
        worker = os.fork()
        if worker:
            there.send(worker)
        time.sleep(300)

    process = context.Process(target=hold)
    process.start()
    worker = here.recv()
    assert not try_lock(lock)
    process.kill()
    process.join()
    os.kill(worker, 0)
    assert try_lock(lock)
    assert try_lock(lock)
    os.kill(worker, signal.SIGKILL)
