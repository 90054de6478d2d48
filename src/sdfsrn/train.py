"""python -m sdfsrn.train [experiment=...] [any.override=...]: learn shapes from single images, then measure them."""

from __future__ import annotations

import copy
import logging
import pathlib
import re
import secrets
import sys
import warnings
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from sdfsrn.checkpoints.files import find_checkpoint
from sdfsrn.checkpoints.loading import load_weights, read_checkpoint
from sdfsrn.checkpoints.resuming import result, unfinished, write_result
from sdfsrn.cli.building import build_model, build_trainer, plain
from sdfsrn.cli.command import command, print_config
from sdfsrn.evaluation.results import EvaluationOptions
from sdfsrn.evaluation.run import evaluate
from sdfsrn.loggers import WandbRun
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured, evaluate the best checkpoint; the best value of `optimized_metric`, for sweeps.

    In a folder that holds a part of the same run, go on with it; a finished one is left as it is.
    """
    _quiet()
    folder = pathlib.Path(config.paths.output)
    path = _start(config, folder)
    if path is not None and (done := result(folder, plain(config))):
        log.warning("%s holds this run, finished at step %d.", folder, done["step"])
        return done["value"]
    resumed = None if path is None else read_checkpoint(path)
    config = _with_logs(config, resumed)
    print_config(config)
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
    return value


def _start(config: DictConfig, folder: pathlib.Path) -> str | None:
    """The checkpoint to go on from: the one that is named, or this run's own."""
    if config.ckpt_path is not None:
        return find_checkpoint(config.ckpt_path, config.paths.root, folder)
    return unfinished(folder, plain(config))


def _test(config: DictConfig, model: ShapeModel, trainer: pl.Trainer, path: str) -> None:
    """Measure the weights in a checkpoint, the model's own without a path, on the test split; logs the means as `test/`."""
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


main = command("train")(train)

if __name__ == "__main__":
    main()
