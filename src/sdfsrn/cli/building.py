"""Models, data and trainers from configurations."""

from __future__ import annotations

import logging
import pathlib
import secrets
import subprocess
import time
from typing import Any, NamedTuple, cast

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from sdfsrn.callbacks import LastCheckpoint, ProgressBar
from sdfsrn.checkpoints.authors import load_authors_checkpoint
from sdfsrn.checkpoints.files import AtomicCheckpointIO
from sdfsrn.checkpoints.loading import adopt
from sdfsrn.cli.arguments import DATA_PATHS, literal_paths
from sdfsrn.data import ViewsDataModule
from sdfsrn.loggers.tolerant import forgive
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


class Experiment(NamedTuple):
    """Objects for `trainer.fit(model, datamodule=datamodule)`."""

    model: ShapeModel
    datamodule: ViewsDataModule
    trainer: pl.Trainer


def build(experiment: str, *overrides: str, config_dir: str | pathlib.Path | None = None) -> Experiment:
    """Build an experiment by its name, as `python -m sdfsrn.train experiment=... OVERRIDES` does, and seed everything.

    Args:
        experiment: a file of `configs/experiment`, or of your own `config_dir`.
        overrides: Hydra's, such as `data.root=/data/ShapeNet` or `model/raymarcher=sphere_tracer`.
        config_dir: folder with config groups of your own, as `--config-dir`.

    Raises:
        ValueError: settings that don't go together.
        hydra.errors.HydraException: no such experiment, group or key.
    """
    output = f"paths.output=outputs/python/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(4)}"
    own = [] if config_dir is None else [f"hydra.searchpath=[file://{pathlib.Path(config_dir).resolve()}]"]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = hydra.compose("train", [*own, f"experiment={experiment}", output, *literal_paths(overrides)])
    seed_everything(config.seed)
    return Experiment(build_model(config), instantiate(config.data), build_trainer(config))


def build_model(config: DictConfig) -> ShapeModel:
    """The model of a training, new or from a checkpoint of the released code."""
    schedule = {name: instantiate(config[name]) if config[name] else None for name in ("optimizer", "scheduler")}
    if config.authors_checkpoint is None:
        model = instantiate(config.model, **schedule)
    else:
        model = load_authors_checkpoint(config.authors_checkpoint, config.authors_settings).train()
        model.optimizer, model.scheduler = schedule["optimizer"], schedule["scheduler"]
    adopt(model, plain(config) | _git_state() | model.config)
    return model


def build_trainer(config: DictConfig) -> pl.Trainer:
    """The trainer with its callbacks and loggers; the loggers get the configuration and the commit."""
    callbacks = [instantiate(node) for node in config.callbacks.values() if node is not None]
    own_bar = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks)
    if config.trainer.get("enable_progress_bar", True) and not own_bar:
        callbacks.append(ProgressBar(config.optimized_metric))
    if not any(isinstance(callback, LastCheckpoint) for callback in callbacks):
        log.warning(
            "An interrupted run cannot be resumed without LastCheckpoint. 'callbacks=[default,NAME]' adds to the default ones."
        )
    loggers: list[Logger] = [instantiate(node) for node in config.logger.values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(plain(config) | _git_state())  # which may fail: nothing is lost yet
        forgive(logger)
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # `LastCheckpoint` saves, then requeues
    return instantiate(config.trainer, callbacks=callbacks, logger=loggers or False, plugins=plugins)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration in dictionaries and lists, its data's paths absolute: a checkpoint is used anywhere."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return {key: _absolute(value) if key == "data" else value for key, value in resolved.items()}


def _absolute(node: Any) -> Any:
    """A node of data with the paths under DATA_PATHS absolute."""
    if not isinstance(node, dict):
        return node
    return {
        key: str(pathlib.Path(value).absolute()) if key in DATA_PATHS and isinstance(value, str) else _absolute(value)
        for key, value in node.items()
    }


def _git_state() -> dict[str, Any]:
    """The working folder's commit, and whether tracked files differ from it; empty without git or outside a checkout."""
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git": {"commit": commit, "dirty": bool(changes)}}
