"""Measuring in the course of a training changes nothing of it, and its time does not count."""

from __future__ import annotations

import pathlib
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from sdfsrn.benchmarking import moments
from sdfsrn.benchmarking.learning import _fit
from sdfsrn.benchmarking.moments import Moments
from sdfsrn.runtime.configs import config_folder
from sdfsrn.system import ShapeModel
from simple import ENCODER
from tiny import MODEL, PRETRAINING

SETTINGS = [
    *MODEL, *ENCODER, *PRETRAINING, "callbacks.pretraining.iterations=5", "data.num_objects=4", "data.num_eval_objects=1",
    "data.shapes.views_per_object=2", "data.shapes.image_size=16", "data.batch_size=4", "data.num_rays=32", "data.jitter=true",
    "trainer.accelerator=cpu",
]  # fmt: skip


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def fit(folder: pathlib.Path, callbacks: str, record: Moments) -> dict[str, torch.Tensor]:
    """The weights after three steps."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        places = [f"paths.cache={folder}", f"paths.output={folder}"]
        config = compose("train", [*SETTINGS, *places, f"callbacks={callbacks}"])
    return weights(_fit(config, 0, 3, record).lightning_module)


@pytest.mark.slow
def test_measuring_does_not_change_the_training(tmp_path: pathlib.Path) -> None:
    """Neither by random numbers, nor by batch statistics, nor by gradients; averaged weights are what is measured."""
    seen: dict[str, list[dict[str, torch.Tensor]]] = {"default": [], "[default,ema]": []}
    for callbacks, found in seen.items():

        def measure(model: ShapeModel, found: list[dict[str, torch.Tensor]] = found) -> dict[str, Any]:
            assert not any(module.training for module in model.modules())
            latent = model.encode(torch.rand(2, 3, 16, 16) + random.random() + np.random.rand())  # noqa: NPY002
            assert not latent.requires_grad
            found.append(weights(model))
            return {"mean": float(latent.mean())}

        record = Moments([1, 2], measure)
        measured, alone = (fit(tmp_path, callbacks, each) for each in (record, Moments([], lambda model: {})))
        torch.testing.assert_close(measured, alone, rtol=0, atol=0)
        assert [(moment["step"], moment["pictures"]) for moment in record.found] == [(1, 4), (2, 8), (3, 12)]
        assert all("mean" in moment for moment in record.found)
        torch.testing.assert_close(found[-1], measured, rtol=0, atol=0)  # Lightning leaves the averages in the model
    (first, second, third), (_, average, _) = seen["default"], seen["[default,ema]"]
    assert third["encoder.0.num_batches_tracked"] == 3
    assert not torch.equal(first["encoder.1.weight"], second["encoder.1.weight"])
    expected = 0.999 * first["encoder.1.weight"] + 0.001 * second["encoder.1.weight"]
    torch.testing.assert_close(average["encoder.1.weight"], expected, rtol=1e-6, atol=1e-7)


def test_the_time_of_measuring_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(moments, "time", SimpleNamespace(perf_counter=lambda: clock))

    def measure(model: torch.nn.Module) -> dict[str, Any]:
        nonlocal clock
        clock += 1000
        return {}

    model, batch, record = torch.nn.Linear(1, 1), SimpleNamespace(image=torch.zeros(7, 1)), Moments([1, 3], measure)
    model.device = torch.device("cpu")
    trainer = SimpleNamespace(global_step=0, callbacks=[])
    record.setup(trainer, model, "fit")
    clock += 5
    record.on_train_start(trainer, model)
    for _ in range(4):
        clock += 2
        trainer.global_step += 1
        record.on_train_batch_end(trainer, model, {}, batch, 0)
    record.on_train_end(trainer, model)
    assert record.seconds_before == 5
    assert [(found["step"], found["pictures"], found["seconds"]) for found in record.found] == [
        (1, 7, 7),
        (3, 21, 11),
        (4, 28, 13),
    ]
