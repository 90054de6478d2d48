"""python -m sdfsrn.train [experiment=...] [any.override=...]: learn shapes from single images, then measure them."""

from __future__ import annotations

import logging
import pathlib
import warnings
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

from sdfsrn.authors import load_authors_checkpoint
from sdfsrn.cli import build, command, load_weights, print_config, read_checkpoint, seed_everything
from sdfsrn.evaluation import evaluate
from sdfsrn.system import SDFSRN

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured, evaluate the best checkpoint; the best value of `optimized_metric`, for sweeps."""
    _quiet()
    resumed = None if config.ckpt_path is None else read_checkpoint(config.ckpt_path)
    print_config(config)
    seed_everything(config.seed)
    datamodule = build(config.data)
    datamodule.prepare()
    datamodule.setup("fit")
    model = _model(config)
    if resumed is not None:
        load_weights(model, resumed, config.ckpt_path)
    trainer = _trainer(config)
    trainer.fit(model, datamodule=datamodule, ckpt_path=config.ckpt_path, weights_only=True)
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    best = next((c for c in checkpoints if c.monitor == config.optimized_metric), None)
    value = best.best_model_score if best is not None else trainer.callback_metrics.get(config.optimized_metric)
    if config.test and trainer.is_global_zero:
        path = best.best_model_path if best is not None else ""
        if path:
            load_weights(model, read_checkpoint(path), path)
        log.info("Evaluating %s", path or "the last weights")
        evaluate(
            model.to(trainer.strategy.root_device),
            datamodule.dataset("test"),
            build(config.protocol),
            pathlib.Path(config.paths.output) / "test",
            reference=datamodule.dataset("val"),
        )
    return None if value is None else float(value)


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
    loggers = [build(node) for node in config.logger.values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(_plain(config))
    return build(config.trainer, callbacks=callbacks, logger=loggers or False)


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
