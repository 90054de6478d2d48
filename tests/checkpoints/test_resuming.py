"""Runs that are cut off and started again end as if nothing had happened."""

from __future__ import annotations

import csv
import ctypes
import errno
import gc
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from sdfsrn.checkpoints.loading import read_checkpoint
from sdfsrn.cli.command import user_message
from sdfsrn.runtime.configs import config_folder
from sdfsrn.runtime.signals import SIGNALS
from sdfsrn.train import train
from tiny import MODEL

STEPS = 11  # three and a half epochs of three batches
TINY = [
    *MODEL,
    "data.num_objects=6",
    "data.num_eval_objects=2",
    "data.shapes.views_per_object=2",
    "data.shapes.image_size=32",
    "data.batch_size=4",
    "data.num_rays=32",
    "data.jitter=true",
    "data.scale_jitter=0.2",
    "callbacks.pretraining.iterations=20",
    "callbacks.pretraining.num_points=64",
    "callbacks.pictures=null",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=4",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "+trainer.enable_progress_bar=false",
    "test=false",
]


class Stop(pl.Callback):
    """Sends this process a signal while a step runs."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def places(folder: pathlib.Path) -> list[str]:
    return [f"paths.output={folder}", f"paths.root={folder.parent.parent}"]


def configured(folder: pathlib.Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*TINY, *places(folder), *overrides])
    OmegaConf.resolve(config)
    return config


def stopping(step: int, number: int = signal.SIGTERM) -> str:
    return f"+callbacks.stop={{_target_: {__name__}.Stop, step: {step}, number: {int(number)}}}"


def weights(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == STEPS
    return checkpoint["state_dict"]


def rows(folder: pathlib.Path) -> list[dict[str, str]]:
    """The log without what depends on the clock."""
    with (folder / "csv" / "metrics.csv").open() as file:
        found = [{k: v for k, v in row.items() if not k.startswith("throughput")} for row in csv.DictReader(file)]
    return [dict(sorted(row.items())) for row in found]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def environment(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDFSRN_CACHE", str(cache))


@pytest.fixture(scope="module")
def whole(cache: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "train" / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDFSRN_CACHE", str(cache))
        train(configured(folder))
    return folder


def same(folder: pathlib.Path, whole: pathlib.Path) -> None:
    found, wanted = weights(folder), weights(whole)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert rows(folder) == rows(whole)


@pytest.mark.parametrize("step", [s if s in (0, 3, 4, 10) else pytest.param(s, marks=pytest.mark.slow) for s in range(STEPS)])
def test_a_run_stopped_at_any_step_goes_on_exactly(step: int, whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "train" / "run"
    with pytest.raises(SystemExit) as stop:
        train(configured(folder, stopping(step)))
    assert stop.value.code == 128 + signal.SIGTERM
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == step + 1
    train(configured(folder))
    same(folder, whole)


def test_each_rerun_of_a_finished_run_changes_nothing(whole: pathlib.Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}

    before = state()
    value = train(configured(whole))
    assert state() == before
    assert (
        value
        == json.loads((whole / "result.json").read_text())["value"]
        == pytest.approx(min(float(r["val/chamfer"]) for r in rows(whole) if r["val/chamfer"]))
    )


def test_ctrl_c_and_preemption_leave_with_their_status(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, before = tmp_path / "train" / "run", signal.getsignal(signal.SIGINT)
    for step, number in ((1, signal.SIGINT), (5, signal.SIGUSR1)):
        with pytest.raises(SystemExit) as stop:
            train(configured(folder, stopping(step, number)))
        assert stop.value.code == 128 + number
        assert signal.getsignal(signal.SIGINT) is before
    train(configured(folder))
    same(folder, whole)


def test_other_settings_are_not_mixed_into_a_run(whole: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"holds a run with other settings \(data.batch_size, seed\)"):
        train(configured(whole, "seed=1", "data.batch_size=2"))


def test_a_run_can_be_made_longer_in_its_folder(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, before = tmp_path / "train" / "run", [signal.getsignal(number) for number in SIGNALS]
    train(configured(folder, "trainer.max_steps=7", f"scheduler.lr_lambda.total={STEPS}"))
    assert [signal.getsignal(number) for number in SIGNALS] == before  # the evaluation that follows ends at once
    assert json.loads((folder / "result.json").read_text())["step"] == 7
    train(configured(folder))
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(folder).items())
    epochless = [[{**row, "epoch": ""} for row in rows(run)] for run in (folder, whole)]  # the cut epoch counts as one
    assert epochless[0] == epochless[1]


def test_a_checkpoint_of_another_folder(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """`last` finds the newest run; what was logged before is in that run's folder."""
    first, second = tmp_path / "train" / "first", tmp_path / "train" / "second"
    with pytest.raises(SystemExit):
        train(configured(first, stopping(5)))
    train(configured(second, "ckpt_path=last"))
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(second).items())
    assert rows(first) + rows(second) == rows(whole)


class KillWorker(pl.Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.global_step == 5:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


class DeleteFiles(pl.Callback):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.global_step == 5:
            shutil.rmtree(self.folder)


def test_a_killed_worker_ends_the_run_and_loses_nothing(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "train" / "run"
    with pytest.raises(Exception) as error:  # noqa: PT011  # torch raises its own within whatever is running
        train(configured(folder, "data.num_workers=2", f"+callbacks.kill._target_={__name__}.KillWorker"))
    assert "DataLoader worker" in user_message(error.value)
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 4
    train(configured(folder))
    same(folder, whole)


def test_a_killed_worker_is_told_also_from_within_other_errors() -> None:
    """As `SystemError: <function> returned a result with an exception set`, from the signal handler's RuntimeError."""
    error = SystemError("returned a result with an exception set")
    error.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert user_message(error) == "DataLoader worker (pid 7) is killed by signal: Killed."
    assert user_message(SystemError("a fault")) is None
    assert user_message(RuntimeError("a fault")) is None


def test_a_full_disk_ends_the_run_and_loses_nothing(
    whole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "train" / "run"
    save, writes = torch.save, itertools.count()

    def full(content: object, file: io.IOBase) -> None:
        if next(writes) < 3:
            return save(content, file)
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left on device; the checkpoint before it is intact"):
            train(configured(folder))
    train(configured(folder))
    same(folder, whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_deleted_file_is_named(workers: int, balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    overrides = [
        "data=shapenet", "data.root=" + str(balls), "data.preload=false", f"data.num_workers={workers}", "data.batch_size=2",
        f"+callbacks.delete={{_target_: {__name__}.DeleteFiles, folder: {balls}/02691156/a/image}}", "data.num_rays=16",
    ]  # fmt: skip
    small = [item for item in TINY if not item.startswith("data.")]
    folder = tmp_path / "train" / "run"
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose(
            "train", [*small, "experiment=shapenet_airplane", *overrides, *places(folder), "model.encoder.weights=null"]
        )
    OmegaConf.resolve(config)
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="image") as error:
        train(config)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert user_message(error.value).startswith(f"Could not read a picture from {balls}/02691156/a/image/000")
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 4


class Resources(pl.Callback):
    """Memory that is only this process's and in use (in MB), and open files, every hundred steps."""

    def __init__(self, path: str) -> None:
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.global_step % 100 == 0:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what is freed goes back to the system; else it comes and goes by 50 MB
            status = pathlib.Path("/proc/self/status").read_text()
            memory = int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024
            with self.path.open("a") as file:
                file.write(f"{memory} {len(list(pathlib.Path('/proc/self/fd').iterdir()))}\n")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_neither_memory_nor_open_files_grow(workers: int, tmp_path: pathlib.Path) -> None:
    """Over 2,000 steps with eight validations; what is still growing after 500 steps would be a leak."""
    measured = tmp_path / "resources"
    steps = ["trainer.max_steps=2000", "trainer.val_check_interval=250", f"data.num_workers={workers}"]
    train(
        configured(
            tmp_path / "train" / "run", *steps, f"+callbacks.resources={{_target_: {__name__}.Resources, path: {measured}}}"
        )
    )
    memory, files = np.loadtxt(measured).T
    assert len(memory) == 20
    assert np.median(memory[10:]) - np.median(memory[5:10]) < 8, memory
    assert files[10:].max() <= files[:10].max(), files  # a batch on its way from a worker has some


def killed(kills: int, seed: int, whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "train" / "run"
    folder.mkdir(parents=True)
    overrides = [*places(folder), "data.num_workers=2", "callbacks.last.every_n_steps=1"]
    script = pathlib.Path(__file__).parents[1] / "killing.py"
    command = [sys.executable, str(script), str(folder), str(kills), str(seed), *TINY, *overrides]
    threads = str(torch.get_num_threads())  # sums of other parts are rounded otherwise
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": threads})
    assert done.returncode == 0, done.stdout + done.stderr + (folder.parent / "output.txt").read_text()[-2000:]
    assert done.stdout.count("killed in a write, 1 partial files") == kills // 2, done.stdout
    assert done.stdout.count("killed at another moment") == kills - kills // 2, done.stdout
    assert not list(folder.rglob(".*.tmp"))
    same(folder, whole)


@pytest.mark.slow
def test_killed_runs_end_as_if_nothing_had_happened(whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    killed(3, 0, whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_runs_killed_ten_times_end_as_if_nothing_had_happened(seed: int, whole: pathlib.Path, tmp_path: pathlib.Path) -> None:
    killed(10, seed, whole, tmp_path)
