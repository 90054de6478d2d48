"""How well configurations learn within a fixed budget: trainings with paired seeds, measured on the test split as they go."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ProgressBar

from sdfsrn.benchmarking.comparison import compare
from sdfsrn.benchmarking.configurations import BASE, Configuration, configurations, given_overrides
from sdfsrn.benchmarking.moments import Moments
from sdfsrn.cli.building import build_model
from sdfsrn.data.source import evenly_spaced
from sdfsrn.evaluation.measuring import TrueShape
from sdfsrn.evaluation.references import reference_rows, reference_shapes, reference_statistics
from sdfsrn.evaluation.results import measured_rows
from sdfsrn.evaluation.summary import Row, summarize
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.seeds import seed_everything
from sdfsrn.system import ShapeModel

WARM, PACED = 5, 20  # steps before those on which the pace is measured, and those
TRAINING_PICTURES = 16  # measured at the end of a training, to tell underfitting from overfitting
LOGGED = ("chamfer", "silhouette_iou", "color_error")
COUNTS = ("objects", "measured", "failures", "without_truth", "unreadable")

log = logging.getLogger(__name__)


class Pace(NamedTuple):
    """Times of a training, found from a few steps of that very configuration in this process."""

    seconds_before: float  # the first step: of pretraining
    seconds_per_step: float
    measured_steps: int = PACED


def learn(config: DictConfig, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train and measure all configurations with every seed in turn; `save` receives the result after each training.

    Raises:
        ValueError: settings that cannot be measured, or configurations that cannot be compared.
    """
    compared = configurations(config)
    base = compared[BASE]
    trained = {name: {"overrides": each.overrides, **_budget(each, config), "runs": []} for name, each in compared.items()}
    result: dict[str, Any] = {
        "part": "learning",
        "overrides": given_overrides(),
        "seeds": list(config.seeds),
        "minutes": config.minutes,
        "protocol": dataclasses.asdict(base.protocol),
        "references": _references(base),
        "configurations": trained,
    }
    for seed in config.seeds:
        for name, each in compared.items():
            times = moments(trained[name]["steps"], config.measurements)
            trained[name]["runs"].append(_run(name, each, seed, times))
            save(result | compare(_finals(trained)))
    return result | compare(_finals(trained))


def moments(steps: int, count: int) -> list[int]:
    """Numbers of steps after which to measure: at most `count`, evenly spaced, the last at the end.

    >>> moments(10, 4), moments(2, 5)
    ([2, 5, 8, 10], [1, 2])
    """
    return sorted({max(1, round(steps * i / count)) for i in range(1, count + 1)})


def steps_within(minutes: float, pace: Pace) -> int:
    """How many steps a training of so many minutes has, pretraining included.

    Raises:
        ValueError: the time ends before the first step does.
    """
    steps = int((60 * minutes - pace.seconds_before) / pace.seconds_per_step)
    if steps < 1:
        least = (pace.seconds_before + pace.seconds_per_step) / 60
        raise ValueError(f"Expected at least minutes={least:.2g} for pretraining and a step, got minutes={minutes}.")
    return steps


def _budget(each: Configuration, config: DictConfig) -> dict[str, Any]:
    """The `steps` of a training, and the `pace` that they were found from; None without minutes."""
    if config.minutes is None:
        return {"steps": each.config.trainer.max_steps, "pace": None}
    record = Moments([WARM], lambda model: {})
    _fit(each.config, config.seeds[0], WARM + PACED, record)
    start, end = (moment["seconds"] for moment in record.found)
    pace = Pace(record.seconds_before, (end - start) / PACED)
    return {"steps": steps_within(config.minutes, pace), "pace": pace._asdict()}


def _references(base: Configuration) -> dict[str, Any]:
    """`reference_statistics` on the test pictures; the best constant shape is one of the validation split."""
    shapes = reference_shapes(instantiate(base.config.data).source("val"), base.protocol)
    rows = [
        reference_rows(shapes, Row(index, base.test.names[index]), truth, base.protocol) for index, truth in base.truths.items()
    ]
    return reference_statistics(shapes, {name: [row[name] for row in rows] for name in shapes}, base.protocol)


def _run(name: str, each: Configuration, seed: int, times: Sequence[int]) -> dict[str, Any]:
    """One training: its pace, its `moments`, and the measures of `training_pictures` at its end."""

    def measure(model: ShapeModel) -> dict[str, Any]:
        found = _measures(measured_rows(model, each.test, each.truths, each.protocol), each.protocol)
        shown = [f"{key} {found['metrics'][key]:.4f}" for key in LOGGED if key in found["metrics"]]
        log.info("%s, seed %d, step %d of %d: %s", name, seed, model.global_step, times[-1], ", ".join(shown) or "no surface")
        return found

    record = Moments(times, measure)
    trainer = _fit(each.config, seed, times[-1], record)
    last = record.found[-1]
    return {
        "seed": seed,
        "seconds_before": record.seconds_before,
        "seconds": last["seconds"],
        "pictures_per_second": last["pictures"] / (last["seconds"] - record.seconds_before),
        "moments": record.found,
        "training_pictures": _training_pictures(trainer, each.protocol),
    }


def _fit(config: DictConfig, seed: int, steps: int, record: Moments) -> pl.Trainer:
    """Train for so many steps, where schedules end as well; without validation, checkpoints and loggers."""
    config = copy.deepcopy(config)
    OmegaConf.update(config, "seed", seed)
    OmegaConf.update(config, "trainer.max_steps", steps)
    seed_everything(seed)
    datamodule, model = instantiate(config.data), build_model(config)
    callbacks = [instantiate(node) for node in config.callbacks.values() if node is not None]
    trainer: pl.Trainer = instantiate(
        config.trainer,
        callbacks=[*(each for each in callbacks if not isinstance(each, Checkpoint | EarlyStopping | ProgressBar)), record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    trainer.fit(model, datamodule=datamodule)
    return trainer


def _training_pictures(trainer: pl.Trainer, protocol: EvaluationProtocol) -> dict[str, Any]:
    """Measures of the last weights on training pictures: of their silhouettes and colours."""
    model: Any = trainer.lightning_module.to(trainer.strategy.root_device).eval()
    source = trainer.datamodule.dataset("train").source  # type: ignore[attr-defined]  # which Lightning does not declare
    unknown = torch.zeros(0, 3)
    truths = {
        index: TrueShape(unknown, unknown, lambda points: None, [source.picture(index)])
        for index in evenly_spaced(len(source), TRAINING_PICTURES)
    }
    return _measures(measured_rows(model, source, truths, protocol), protocol)


def _measures(rows: Sequence[Row], protocol: EvaluationProtocol) -> dict[str, Any]:
    """The means of the `metrics` over objects, and counts of objects."""
    summary = summarize(rows, protocol)
    metrics = {name: values["mean"] for name, values in summary["metrics"].items()}
    return {"metrics": metrics, **{name: summary[name] for name in COUNTS}}


def _finals(trained: Mapping[str, Any]) -> dict[str, dict[int, dict[str, float]]]:
    """The last values of all trainings by configuration, seed and name."""
    return {name: {run["seed"]: _final(run) for run in each["runs"]} for name, each in trained.items()}


def _final(run: Mapping[str, Any]) -> dict[str, float]:
    last, training = run["moments"][-1], run["training_pictures"]["metrics"]
    of_training = {f"training_{name}": value for name, value in training.items()}
    effort = {name: run[name] for name in ("pictures_per_second", "seconds")}
    return {**last["metrics"], "failures": last["failures"], **of_training, **effort, "steps": last["step"]}
