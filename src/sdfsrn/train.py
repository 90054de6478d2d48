"""python -m sdfsrn.train [experiment=...] [any.override=...]: learn shapes from single images, then measure them."""

from __future__ import annotations

import copy
import logging
import pathlib
import re
import secrets
import sys
from typing import Any

import pytorch_lightning as pl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from sdfsrn.checkpoints.files import find_checkpoint
from sdfsrn.checkpoints.loading import load_weights, read_checkpoint
from sdfsrn.checkpoints.resuming import result, unfinished, write_result
from sdfsrn.cli.building import build_model, build_trainer, plain
from sdfsrn.cli.command import command, show_config
from sdfsrn.evaluation.report import REPORT
from sdfsrn.evaluation.results import EvaluationOptions
from sdfsrn.evaluation.run import evaluate
from sdfsrn.loggers import WandbRun
from sdfsrn.runtime.configs import flatten, instantiate
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured, evaluate the best checkpoint; the best value of `optimized_metric`, for sweeps.

    A folder with a part of the same run is continued; a finished run is left as it is.

    Raises:
        ValueError: `data` without an experiment for it, or a folder with another run.
    """
    _check_experiment()
    folder = pathlib.Path(config.paths.output)
    path = _start(config, folder)
    if path is not None and (done := result(folder, plain(config))):
        log.warning("%s holds this run, finished at step %d.", folder, done["step"])
        return done["value"]
    resumed = None if path is None else read_checkpoint(path)
    if resumed is not None and "optimizer_states" not in resumed:
        raise ValueError(f"Expected the checkpoint of a training to go on from, got an exported model in {path}.")
    config = _with_logs(config, resumed)
    show_config(config)
    seed_everything(config.seed)
    datamodule = instantiate(config.data)
    rank_zero_only(datamodule.prepare_data)()  # bad data ends the program before any logger starts
    model = build_model(config)
    if path is not None and resumed is not None:
        load_weights(model, resumed, path)
        log.info("Going on from step %d of %s", resumed["global_step"], path)
    trainer = build_trainer(config)
    try:
        trainer.fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c for c in checkpoints if c.monitor == config.optimized_metric), None)
        found = best.best_model_score if best is not None else trainer.callback_metrics.get(config.optimized_metric)
        value = None if found is None else float(found)
        if config.test and trainer.is_global_zero:
            _test(config, model, trainer, best.best_model_path if best is not None else "")
        if trainer.is_global_zero and not config.trainer.get("fast_dev_run"):
            write_result(folder, plain(config), value, trainer.global_step)
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.finish(failed=sys.exc_info()[0] is not None)
    if config.test and trainer.is_global_zero:
        log.info("Report: %s", (folder / "test" / REPORT).resolve().as_uri())
    return value


def _check_experiment() -> None:
    """Raise ValueError where `data` was chosen without an experiment: the default's networks are for its own data only."""
    if not HydraConfig.initialized():
        return
    chosen, given = HydraConfig.get().runtime.choices, HydraConfig.get().overrides.task
    if chosen["data"] != "synthetic" and not any(override.lstrip("+~").startswith("experiment") for override in given):
        known = GlobalHydra.instance().config_loader().get_group_options("experiment")
        raise ValueError(
            f"Expected experiment=... with data={chosen['data']}: one of {', '.join(known)}; the default, "
            f"{chosen['experiment']}, has small networks for data=synthetic."
        )


def _start(config: DictConfig, folder: pathlib.Path) -> str | None:
    """The checkpoint to continue from: `ckpt_path`, or else the last one in this run's folder."""
    if config.ckpt_path is not None:
        return find_checkpoint(config.ckpt_path, config.paths.root, folder)
    return unfinished(folder, plain(config))


def _test(config: DictConfig, model: ShapeModel, trainer: pl.Trainer, path: str) -> None:
    """Evaluate a checkpoint, without a path the present weights, on the test split; log the means as `test/<metric>`."""
    if path:
        load_weights(model, read_checkpoint(path), path)
    log.info("Evaluating %s", path or "the last weights")
    datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
    data = type(datamodule).__name__.removesuffix("DataModule")
    about = {"checkpoint": path or "the last weights", "data": data, "split": "test", "seed": config.seed}
    summary = evaluate(
        model.to(trainer.strategy.root_device),
        datamodule.source("test"),
        instantiate(config.protocol),
        pathlib.Path(config.paths.output) / "test",
        EvaluationOptions(reference=datamodule.dataset("val").source, about=about),
    )
    for logger in trainer.loggers:
        means = {name: found["mean"] for name, found in summary["metrics"].items()}
        counts = {name: value for name, value in summary.items() if isinstance(value, int | float)}
        numbers = {f"test/{name}": value for name, value in {**counts, **means}.items()}
        logger.log_metrics(numbers, step=trainer.global_step)
        logger.save()


def _with_logs(config: DictConfig, resumed: dict[str, Any] | None) -> DictConfig:
    """The configuration with the first step of the loggers and the id of the W&B run.

    The id is the configured one, that of the resumed run, or a new one; it is stored with the configuration in checkpoints.
    """
    config, step = copy.deepcopy(config), (resumed or {}).get("global_step", 0)
    for name, key in (("csv", "first_step"), ("tensorboard", "purge_step")):
        if config.logger.get(name) is not None:
            OmegaConf.update(config, f"logger.{name}.{key}", step, force_add=True)
    wandb = config.logger.get("wandb")
    if wandb is not None and wandb.get("id") is None:
        before = None if resumed is None else flatten(resumed["config"]).get("logger.wandb.id")
        known = before is not None and re.fullmatch(r"[\w-]+", str(before))  # an interpolation is not taken over
        OmegaConf.update(config, "logger.wandb.id", str(before) if known else secrets.token_hex(4), force_add=True)
    return config


main = command("train")(train)

if __name__ == "__main__":
    main()
