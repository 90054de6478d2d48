"""python -m sdfsrn.evaluate ckpt_path=... [data=...]: measure a trained model on a split (report=FOLDER: its report again)."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from sdfsrn.cli.command import command
from sdfsrn.cli.loading import data_node, load_model, load_protocol
from sdfsrn.data import ViewsDataModule
from sdfsrn.data.source import Source
from sdfsrn.evaluation.report import REPORT, report_evaluation
from sdfsrn.evaluation.results import EvaluationOptions
from sdfsrn.evaluation.run import evaluate as evaluate_split
from sdfsrn.evaluation.summary import complaint
from sdfsrn.inference import check_refinable, refine
from sdfsrn.models import Shape
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> dict[str, Any] | None:
    """Evaluate as configured and return the summary; with `report`, write the report of that folder again instead.

    Raises:
        ValueError: some objects could not be measured; raised after all others were measured and written.
    """
    if config.report is not None:
        log.info("Report: %s", report_evaluation(pathlib.Path(config.report)).resolve().as_uri())
        return None
    seed_everything(config.seed)
    model = load_model(config)
    refinement = _refinement(config, model)
    datamodule = _datamodule(config, model.config)
    datamodule.prepare()
    options = EvaluationOptions(
        formats=config.mesh_formats,
        limit=config.limit,
        reference=_reference(datamodule),
        refine=refinement,
        about=_about(config, datamodule),
    )
    protocol, output = load_protocol(config.protocol, model), pathlib.Path(config.paths.output)
    summary = evaluate_split(model, datamodule.source(config.split), protocol, output, options)
    log.info("Report: %s", (output / REPORT).resolve().as_uri())
    if lost := complaint(summary):
        raise ValueError(lost)
    return summary


def _about(config: DictConfig, datamodule: ViewsDataModule) -> dict[str, Any]:
    fitted = {"test_time_optimization": f"{config.optimization.steps} steps"} if config.test_time_optimization else {}
    checkpoint, data = config.ckpt_path or config.authors_checkpoint, type(datamodule).__name__.removesuffix("DataModule")
    return {"checkpoint": str(checkpoint), "data": data, "split": config.split, "seed": config.seed, **fitted}


def _reference(datamodule: ViewsDataModule) -> Source | None:
    try:
        return datamodule.source("val")
    except ValueError as error:
        log.warning("There is no best constant shape without a validation split: %s", error)
        return None


def _refinement(config: DictConfig, model: ShapeModel) -> Callable[[ShapeModel, Views], Shape] | None:
    if not config.test_time_optimization:
        return None
    check_refinable(model)
    return lambda model, views: refine(model, views, config.optimization.steps, config.optimization.lr, config.seed).shape


def _datamodule(config: DictConfig, trained: dict[str, Any]) -> ViewsDataModule:
    node = data_node(config, trained)
    if node is None:
        raise ValueError("Expected data=..., since this checkpoint does not say what it was trained on.")
    return instantiate(node)


main = command("evaluate", changes="data")(evaluate)

if __name__ == "__main__":
    main()
