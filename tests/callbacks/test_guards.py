from __future__ import annotations

import json
import pathlib
import types

import pytest
import torch

from sdfsrn import DVR, SDFSRN
from sdfsrn.callbacks import CollapseWarning, FiniteLoss
from sdfsrn.callbacks.guards import _Step
from sdfsrn.runtime.readback import Readback
from waiting import PretendedDevice


def test_a_loss_that_is_not_finite_names_the_pictures(tmp_path: pathlib.Path) -> None:
    source = types.SimpleNamespace(names=["a", "b", "c"])
    trainer = types.SimpleNamespace(
        datamodule=types.SimpleNamespace(dataset=lambda split: types.SimpleNamespace(source=source)),
        callback_metrics={"train/color": torch.tensor(torch.nan)},
        global_step=7,
        optimizers=[],
    )
    guard = FiniteLoss(str(tmp_path))
    guard.on_train_batch_start(trainer, None, types.SimpleNamespace(index=torch.tensor([2, 0])), 0)
    guard.on_before_backward(trainer, None, torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="step 7"):
        guard.on_before_backward(trainer, None, torch.tensor(torch.nan))
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["pictures"] == ["c", "a"]
    assert report["step"] == 7


@pytest.mark.parametrize("fused", [True, False], ids=["left out", "given back"])
def test_weights_outlive_a_step_that_is_checked_later(
    fused: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CUDA device, where the host asks two steps later."""
    device = PretendedDevice()
    monkeypatch.setattr(torch.cuda, "Event", lambda: types.SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    weight = torch.nn.Parameter(device.mark(torch.ones(2)))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True) if fused else torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    trainer = types.SimpleNamespace(datamodule=None, callback_metrics={}, global_step=0, optimizers=[optimizer])
    guard = FiniteLoss(str(tmp_path))

    def step(number: int, factor: float) -> None:
        trainer.global_step = number
        guard.on_train_batch_start(trainer, None, types.SimpleNamespace(index=torch.tensor([number])), 0)
        optimizer.zero_grad()
        loss = factor * weight.sum()
        guard.on_before_backward(trainer, None, loss)
        loss.backward()
        guard.on_before_optimizer_step(trainer, None, optimizer)
        optimizer.step()
        guard.on_train_batch_end(trainer, None, {"color": torch.tensor(float(number))}, None, 0)

    with device.entered():
        step(0, 1.0)
        after_one = weight.detach().clone()
        step(1, float("nan"))
        same = weight == after_one
        step(2, 1.0)
        step(3, 1.0)
        assert device.waits == []
        with pytest.raises(FloatingPointError, match="step 1"):
            step(4, 1.0)
    assert same.all()
    assert not torch.equal(after_one, torch.ones(2))
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["index"] == [1]
    assert report["terms"] == {"train/color": "1.0"}


def test_a_step_that_is_not_checked_yet_is_before_validation(tmp_path: pathlib.Path) -> None:
    trainer = types.SimpleNamespace(datamodule=None, callback_metrics={}, global_step=5, optimizers=[])
    guard = FiniteLoss(str(tmp_path))
    guard._unchecked.append(_Step(4, Readback(torch.tensor(torch.inf)), torch.tensor([3]), {}))
    with pytest.raises(FloatingPointError, match="step 4"):
        guard.on_validation_start(trainer, None)


def test_collapse_is_reported_once_and_in_words() -> None:
    callback, trainer = CollapseWarning(patience=3), types.SimpleNamespace(global_step=9)
    for hit in (0.0, 0.0, 0.1, 0.0, 0.0):
        callback.on_train_batch_end(trainer, None, {"hit": torch.tensor(hit)}, None, 0)
    with pytest.warns(UserWarning, match="for 3 steps no ray inside a silhouette has met a surface"):
        callback.on_train_batch_end(trainer, None, {"hit": torch.tensor(0.0)}, None, 0)


def test_collapse_on_a_device_is_read_a_step_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    device = PretendedDevice()
    monkeypatch.setattr(torch.cuda, "Event", lambda: types.SimpleNamespace(record=lambda: None, synchronize=lambda: None))
    callback, trainer = CollapseWarning(patience=3), types.SimpleNamespace(global_step=9)
    with device.entered():
        for _ in range(3):
            callback.on_train_batch_end(trainer, None, {"hit": device.mark(torch.tensor(0.0))}, None, 0)
        with pytest.warns(UserWarning, match="for 3 steps no ray"):
            callback.on_train_batch_end(trainer, None, {"hit": device.mark(torch.tensor(0.0))}, None, 0)
    assert device.waits == []


def test_models_say_how_long_they_may_have_no_surface() -> None:
    """DVR begins without any for a while, which is no collapse."""
    assert SDFSRN.empty_steps == 50 < DVR.empty_steps
    callback, trainer = CollapseWarning(), types.SimpleNamespace(global_step=9)
    model = types.SimpleNamespace(empty_steps=2)
    callback.on_train_batch_end(trainer, model, {"hit": torch.tensor(0.0)}, None, 0)
    with pytest.warns(UserWarning, match="for 2 steps"):
        callback.on_train_batch_end(trainer, model, {"hit": torch.tensor(0.0)}, None, 0)
