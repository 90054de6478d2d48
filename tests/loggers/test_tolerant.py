"""A logger that fails costs its own lines; everything else of the training is there."""

from __future__ import annotations

import logging
import os
import pathlib

import numpy as np
import pytest
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from pytorch_lightning.loggers.logger import DummyLogger, Logger

from sdfsrn.callbacks import LastCheckpoint
from sdfsrn.callbacks.pictures import LogPictures
from sdfsrn.loggers import WandbRun, wandb_run
from sdfsrn.loggers.tolerant import forgive, forgiven
from sdfsrn.runtime.configs import config_folder
from sdfsrn.train import train
from tiny import MODEL, PICTURES, PRETRAINING


class Failing(Logger):
    """Starts, and then fails at everything."""

    name, version = "failing", 0

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Before anything is lost."""

    def log_metrics(self, *args: object, **kwargs: object) -> None:
        raise ConnectionError("the server\nis gone")

    def save(self) -> None:
        raise OSError(28, "No space left on device")

    def finalize(self, status: str) -> None:
        raise RuntimeError


def configured(folder: pathlib.Path, *overrides: str) -> object:
    data = ["data.num_objects=4", "data.num_eval_objects=1", "data.shapes.views_per_object=2", "data.batch_size=4"]
    run = ["trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.accelerator=cpu", "protocol.resolution=12"]
    paths = [f"paths.output={folder}/run", f"paths.cache={folder}/cache"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", [*PICTURES, *MODEL, *PRETRAINING, *data, *run, *paths, *overrides])


def test_a_training_outlives_its_logger(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    config = configured(tmp_path, "+logger.failing._target_=test_tolerant.Failing", "protocol.num_points=200")
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(pathlib.Path(__file__).parent))
        train(config)
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "csv/metrics.csv", "test/summary.json", "result.json"):
        assert (tmp_path / "run" / name).is_file(), name
    told = [record.getMessage() for record in caplog.records if "Failing" in record.getMessage()]
    (told,) = told  # of several failures, the first
    assert told == "Failing failed and the training goes on without what it was to log: [Errno 28] No space left on device."


def test_the_last_checkpoint_is_written_before_media_go_out(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that not even the end of the process in a logger costs the steps before the first validation."""

    def killed(*_: object) -> None:
        assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
        raise SystemExit("killed while logging")

    monkeypatch.setattr("sdfsrn.callbacks.pictures.log_media", killed)
    with pytest.raises(SystemExit, match="killed while logging"):
        train(configured(tmp_path, "test=false"))


def test_pictures_come_after_the_last_checkpoint_in_any_order_of_other_callbacks(tmp_path: pathlib.Path) -> None:
    last, pictures, other = LastCheckpoint(str(tmp_path)), LogPictures(str(tmp_path)), pl.callbacks.LearningRateMonitor()
    trainer = pl.Trainer(callbacks=[last, pictures, other], accelerator="cpu", logger=False, default_root_dir=tmp_path)
    order = [callback for callback in trainer.callbacks if callback in (last, pictures, other)]
    assert order == [other, last, pictures]


def test_a_killed_worker_and_the_users_interrupt_are_no_faults_of_a_logger() -> None:
    logger = DummyLogger()
    for error in (RuntimeError("DataLoader worker (pid 3) is killed"), KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(error)), forgiven(logger):
            raise error
    forgive(logger)
    logger.log_metrics({})


@pytest.mark.parametrize("home", ["writable", "not writable", "none"])
def test_wandb_keeps_its_files_in_the_run_folder(home: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own choices stay; a second run in the process has folders of its own; /proc is read-only to root as well."""
    monkeypatch.setattr(wandb_run, "_set", set())
    for name in (*wandb_run.FOLDERS, "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", {"writable": str(tmp_path / "home"), "not writable": "/proc/home", "none": "/dev/null"}[home])
    monkeypatch.setenv("WANDB_CACHE_DIR", "/mine")
    for run in ("first", "second"):
        wandb_run._keep_files_in(tmp_path / run / "wandb")
        for name in ("WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
            assert pathlib.Path(os.environ[name]).is_dir()
            assert pathlib.Path(os.environ[name]).is_relative_to(tmp_path / run)
        assert os.environ["WANDB_CACHE_DIR"] == "/mine"
        assert ("WANDB_CONFIG_DIR" in os.environ) == (home != "writable")


@pytest.mark.slow
def test_wandb_logs_tables_offline_without_a_home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setattr(wandb_run, "_set", set())
    for name in (*wandb_run.FOLDERS, "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/home")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "run").mkdir()
    logger = WandbRun(save_dir=str(tmp_path / "run"), offline=True)
    table = wandb.Table(columns=["image"], data=[[wandb.Image(np.zeros((4, 4, 3), np.uint8))]])
    logger.log_metrics({"val/predictions": table}, 0)
    logger.finish()
    assert list((tmp_path / "run").rglob("*.wandb"))
