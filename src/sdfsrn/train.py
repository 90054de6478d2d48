"""python -m sdfsrn.train [experiment=...] [any.override=...]: learn shapes from single images, then measure them."""

from __future__ import annotations

import copy
import logging
import pathlib
import secrets
import subprocess
import sys
import warnings
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.callbacks import WandbRun
from sdfsrn.cli import build, command, load_weights, print_config, read_checkpoint, seed_everything
from sdfsrn.evaluation import evaluate
from sdfsrn.system import SDFSRN

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured, evaluate the best checkpoint; the best value of `optimized_metric`, for sweeps."""
    _quiet()
    resumed = None if config.ckpt_path is None else read_checkpoint(config.ckpt_path)
    config = _with_run_id(config, resumed)
    print_config(config)
    seed_everything(config.seed)
    datamodule = build(config.data)
    datamodule.prepare()
    datamodule.setup("fit")
    model = _model(config)
    if resumed is not None:
        load_weights(model, resumed, config.ckpt_path)
    trainer = _trainer(config)
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=config.ckpt_path, weights_only=True)
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c for c in checkpoints if c.monitor == config.optimized_metric), None)
        value = best.best_model_score if best is not None else trainer.callback_metrics.get(config.optimized_metric)
        if config.test and trainer.is_global_zero:
            _test(config, model, trainer, best.best_model_path if best is not None else "")
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.finish(failed=sys.exc_info()[0] is not None)
    return None if value is None else float(value)


def _test(config: DictConfig, model: SDFSRN, trainer: pl.Trainer, path: str) -> None:
    """Measure the weights in a checkpoint, the model's own without a path, on the test split; logs the means as `test/`."""
    if path:
        load_weights(model, read_checkpoint(path), path)
    log.info("Evaluating %s", path or "the last weights")
    datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
    summary = evaluate(
        model.to(trainer.strategy.root_device),
        datamodule.dataset("test"),
        build(config.protocol),
        pathlib.Path(config.paths.output) / "test",
        reference=datamodule.dataset("val"),
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
    loggers: list[Logger] = [build(node) for node in config.logger.values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(_plain(config) | _git_state())
    return build(config.trainer, callbacks=callbacks, logger=loggers or False)


def _with_run_id(config: DictConfig, resumed: dict[str, Any] | None) -> DictConfig:
    """The configuration, its W&B run named: as it is given, as the run that is resumed, or anew.

    In the configuration the id travels in the checkpoint.
    """
    wandb = config.logger.get("wandb")
    if wandb is None or wandb.get("id") is not None:
        return config
    before = ((resumed or {}).get("config", {}).get("logger") or {}).get("wandb") or {}
    named = copy.deepcopy(config)
    OmegaConf.update(named, "logger.wandb.id", before.get("id") or secrets.token_hex(4), force_add=True)
    return named


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
    warnings.filterwarnings("ignore", "The ``compute`` method of metric ChamferDistance")  # no truth, nothing to measure
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    rank_zero.addFilter(lambda record: "For seamless cloud" not in record.getMessage())


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


main = command("train")(train)

if __name__ == "__main__":
    main()
