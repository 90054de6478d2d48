"""python -m sdfsrn.train [experiment=...] [any.override=...]: learn shapes from single images, then measure them."""

from __future__ import annotations

import copy
import logging
import pathlib
import re
import secrets
import subprocess
import sys
import warnings
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.callbacks import LastCheckpoint, WandbRun
from sdfsrn.checkpoints import AtomicCheckpointIO, find_checkpoint
from sdfsrn.cli import build, command, load_weights, print_config, read_checkpoint, seed_everything
from sdfsrn.evaluation import evaluate
from sdfsrn.resuming import result, unfinished, write_result
from sdfsrn.system import SDFSRN

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured, evaluate the best checkpoint; the best value of `optimized_metric`, for sweeps.

    In a folder that holds a part of the same run, go on with it; a finished one is left as it is.
    """
    _quiet()
    folder = pathlib.Path(config.paths.output)
    path = _start(config, folder)
    if path is not None and (done := result(folder, _plain(config))):
        log.warning("%s holds this run, finished at step %d.", folder, done["step"])
        return done["value"]
    resumed = None if path is None else read_checkpoint(path)
    config = _with_logs(config, resumed)
    print_config(config)
    seed_everything(config.seed)
    datamodule = build(config.data)
    datamodule.prepare()
    datamodule.setup("fit")
    model = _model(config)
    if path is not None and resumed is not None:
        load_weights(model, resumed, path)
        log.info("Going on from step %d of %s", resumed["global_step"], path)
    trainer = _trainer(config)
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c for c in checkpoints if c.monitor == config.optimized_metric), None)
        found = best.best_model_score if best is not None else trainer.callback_metrics.get(config.optimized_metric)
        value = None if found is None else float(found)
        if config.test and trainer.is_global_zero:
            _test(config, model, trainer, best.best_model_path if best is not None else "")
        if trainer.is_global_zero and not config.trainer.get("fast_dev_run"):
            write_result(folder, _plain(config), value, trainer.global_step)
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.finish(failed=sys.exc_info()[0] is not None)
    return value


def _start(config: DictConfig, folder: pathlib.Path) -> str | None:
    """The checkpoint to go on from: the one that is named, or this run's own."""
    if config.ckpt_path is not None:
        return find_checkpoint(config.ckpt_path, config.paths.root, folder)
    return unfinished(folder, _plain(config))


def _test(config: DictConfig, model: SDFSRN, trainer: pl.Trainer, path: str) -> None:
    """Measure the weights in a checkpoint, the model's own without a path, on the test split; logs the means as `test/`."""
    if path:
        load_weights(model, read_checkpoint(path), path)
    log.info("Evaluating %s", path or "the last weights")
    datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
    data = type(datamodule).__name__.removesuffix("DataModule")
    summary = evaluate(
        model.to(trainer.strategy.root_device),
        datamodule.dataset("test"),
        build(config.protocol),
        pathlib.Path(config.paths.output) / "test",
        reference=datamodule.dataset("val"),
        about={"checkpoint": path or "the last weights", "data": data, "split": "test", "seed": config.seed},
    )
    for logger in trainer.loggers:
        means = {name: found["mean"] for name, found in summary["metrics"].items()}
        counts = {name: value for name, value in summary.items() if isinstance(value, int | float)}
        numbers = {f"test/{name}": value for name, value in {**counts, **means}.items()}
        logger.log_metrics(numbers, step=trainer.global_step)
        logger.save()


def _model(config: DictConfig) -> SDFSRN:
    schedule = {name: build(config[name]) if config[name] else None for name in ("optimizer", "scheduler")}
    if config.authors_checkpoint is None:
        model = build(config.model, **schedule)
    else:
        model = load_authors_checkpoint(config.authors_checkpoint, config.authors_settings).train()
        model.optimizer, model.scheduler = schedule["optimizer"], schedule["scheduler"]
    model.config = _plain(config) | model.config
    return model


def _trainer(config: DictConfig) -> pl.Trainer:
    callbacks = [build(node) for node in config.callbacks.values() if node is not None]
    if not any(isinstance(callback, LastCheckpoint) for callback in callbacks):
        log.warning(
            "Nothing is kept of this run if it is cut off. 'callbacks=[default,NAME]' adds to the callbacks that keep it."
        )
    loggers: list[Logger] = [build(node) for node in config.logger.values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(_plain(config) | _git_state())
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # `LastCheckpoint` does, and saves what it goes on from
    return build(config.trainer, callbacks=callbacks, logger=loggers or False, plugins=plugins)


def _with_logs(config: DictConfig, resumed: dict[str, Any] | None) -> DictConfig:
    """The configuration, its loggers told where the run starts.

    The W&B run is named: as it is given, as the run that is resumed, or anew. In the configuration the id travels in the
    checkpoint.
    """
    config, step = copy.deepcopy(config), (resumed or {}).get("global_step", 0)
    for name, key in (("csv", "first_step"), ("tensorboard", "purge_step")):
        if config.logger.get(name) is not None:
            OmegaConf.update(config, f"logger.{name}.{key}", step, force_add=True)
    wandb = config.logger.get("wandb")
    if wandb is not None and wandb.get("id") is None:
        before = str((((resumed or {}).get("config", {}).get("logger") or {}).get("wandb") or {}).get("id"))
        known = before != "None" and re.fullmatch(r"[\w-]+", before)  # and no interpolation that a stranger wrote there
        OmegaConf.update(config, "logger.wandb.id", before if known else secrets.token_hex(4), force_add=True)
    return config


def _git_state() -> dict[str, Any]:
    """The working folder's commit, and whether followed files differ from it; nothing without git or outside a checkout."""
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git": {"commit": commit, "dirty": bool(changes)}}


def _quiet() -> None:
    """Keep advertisements, and warnings that no user of this program can act on, off the screen."""
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", r"It is recommended to use `self.log\('val/")  # the metrics are synchronised themselves
    warnings.filterwarnings(
        "ignore", "You're resuming from a checkpoint that ended before the epoch ended"
    )  # exact all the same
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", "The ``compute`` method of metric ChamferDistance")  # no truth, nothing to measure
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    noise = ("For seamless cloud", "`weights_only` was not set")
    rank_zero.addFilter(lambda record: not any(text in record.getMessage() for text in noise))


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


main = command("train")(train)

if __name__ == "__main__":
    main()
