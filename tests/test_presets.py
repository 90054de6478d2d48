"""The presets of `debug=` and `callbacks=`, each in a training; settings of the trainer reach it."""

from __future__ import annotations

import csv
import pathlib

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from sdfsrn import SDFSRN
from sdfsrn.checkpoints.loading import load
from sdfsrn.cli.command import user_message
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.train import train
from tiny import MODEL, PICTURES, PRETRAINING

TINY = [
    *PICTURES,
    *MODEL,
    *PRETRAINING,
    "data.num_objects=8",
    "data.num_eval_objects=1",
    "data.shapes.views_per_object=1",
    "data.batch_size=4",
    "callbacks.pictures=null",
    "scheduler=constant",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
    "test=false",
]
LR = 1e-3
EMA = [
    "callbacks=[default,ema]",
    "callbacks.ema.decay=0.75",
    "callbacks.best=null",
    "optimizer=adam",
    f"optimizer.lr={LR}",
    "trainer.val_check_interval=2",
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


def composed(folder: pathlib.Path, cache: pathlib.Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", [*TINY, f"paths.output={folder}", f"paths.cache={cache}", *overrides])


def rows(folder: pathlib.Path, column: str) -> list[float]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def saved(folder: pathlib.Path, name: str = "last") -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.mark.slow
def test_overfitting_a_few_pictures_lowers_their_loss(
    tmp_path: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    step = SDFSRN.training_step
    monkeypatch.setattr(SDFSRN, "training_step", lambda *given: (seen.append(sorted(given[1].index.tolist())), step(*given))[1])
    train(
        composed(tmp_path, cache, "debug=overfit", "trainer.max_steps=30", "trainer.val_check_interval=30", "optimizer.lr=3e-3")
    )
    assert len(seen) == 30
    assert all(batch == seen[0] for batch in seen)
    losses = rows(tmp_path, "train/loss")
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_profile_is_in_the_run_folder(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    train(composed(tmp_path, cache, "debug=profiler", "trainer.max_steps=2", "trainer.val_check_interval=2"))
    assert "optimizer_step" in (tmp_path / "fit-profile.txt").read_text()


def test_anomaly_names_where_a_nan_comes_from(
    tmp_path: pathlib.Path, cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of sqrt at 0, times 0."""

    def training_step(model: SDFSRN, views: object, batch_index: int) -> dict[str, torch.Tensor]:
        weight = next(model.parameters())
        return {"loss": ((weight * 0).sqrt() * 0).sum(), "hit": torch.ones(())}

    monkeypatch.setattr(SDFSRN, "training_step", training_step)
    with pytest.raises(RuntimeError, match="SqrtBackward0"):
        train(composed(tmp_path, cache, "debug=anomaly", "trainer.max_steps=1"))


def test_fast_saves_nothing(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    train(composed(tmp_path, cache, "debug=fast"))
    assert not any((tmp_path / name).exists() for name in ("checkpoints", "result.json"))


def test_early_stopping_watches_what_picks_the_best(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    """A learning rate of 0: after the first validation nothing gets better."""
    chosen = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=2"]
    watched = ["callbacks.best.monitor=val/iou", "callbacks.best.mode=max", "optimized_metric=val/iou"]
    config = composed(
        tmp_path, cache, *chosen, *watched, "optimizer.lr=0", "trainer.max_steps=20", "trainer.val_check_interval=1",
    )  # fmt: skip
    stopping = instantiate(config.callbacks.early_stopping)
    assert (stopping.monitor, stopping.mode) == ("val/iou", "max")
    train(config)
    found = rows(tmp_path, "val/iou")
    assert 3 <= len(found) < 20
    (tmp_path / "result.json").unlink()  # as if it had been cut off in what comes after training
    train(config)
    assert rows(tmp_path, "val/iou") == found


def test_the_average_starts_from_the_pretrained_weights(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    """Adam's first step moves no weight by more than the learning rate."""
    train(composed(tmp_path, cache, *EMA, "trainer.max_steps=1"))
    (path,) = (cache / "pretraining").glob("sphere-*.pt")
    sphere, average = torch.load(path, weights_only=True), saved(tmp_path)["state_dict"]
    for name, weight in sphere.items():
        torch.testing.assert_close(average[f"hypernetwork.{name}"], weight, rtol=0, atol=1.001 * LR)


def test_the_average_is_saved_validated_and_resumed(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    one, two, whole = tmp_path / "one", tmp_path / "two", tmp_path / "whole"
    train(composed(one, cache, *EMA, "trainer.max_steps=1"))
    train(composed(two, cache, *EMA, "trainer.max_steps=2"))
    first, second = saved(one), saved(two)
    assert first["state_dict"].keys() == second["current_model_state"].keys()
    for name, weight in second["current_model_state"].items():
        expected = 0.75 * first["state_dict"][name] + 0.25 * weight
        torch.testing.assert_close(second["state_dict"][name], expected.to(weight.dtype))
    measured = {}
    for state in ("state_dict", "current_model_state"):
        model = load(two / "checkpoints" / "last.ckpt")
        if state == "state_dict":
            assert all(torch.equal(value, second[state][name]) for name, value in model.state_dict().items())
        model.load_state_dict(second[state])
        trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
        measured[state] = trainer.validate(model, instantiate(composed(two, cache).data), verbose=False)[0]["val/chamfer"]
    assert rows(two, "val/chamfer")[-1] == pytest.approx(measured["state_dict"], rel=1e-5)
    assert rows(two, "val/chamfer")[-1] != pytest.approx(measured["current_model_state"], rel=1e-5)
    train(composed(two, cache, *EMA, "trainer.max_steps=4"))
    train(composed(whole, cache, *EMA, "trainer.max_steps=4"))
    resumed, straight = saved(two), saved(whole)
    for state in ("state_dict", "current_model_state"):
        for name, weight in straight[state].items():
            assert torch.equal(resumed[state][name], weight), name


def test_settings_of_the_trainer_reach_it(tmp_path: pathlib.Path, cache: pathlib.Path) -> None:
    config = composed(tmp_path, cache, "trainer.gradient_clip_val=0.5", "++trainer.accumulate_grad_batches=2")
    trainer = instantiate(config.trainer)
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches) == (0.5, 2)
    with pytest.raises(Exception, match="nonsense") as error:
        train(composed(tmp_path, cache, "+trainer.nonsense=1"))
    assert "there is no such config key" in user_message(error.value)
