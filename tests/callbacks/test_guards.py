from __future__ import annotations

import json
import pathlib
import types

import pytest
import torch

from sdfsrn import DVR, SDFSRN
from sdfsrn.callbacks import CollapseWarning, FiniteLoss


def test_a_loss_that_is_not_finite_names_the_pictures(tmp_path: pathlib.Path) -> None:
    source = types.SimpleNamespace(names=["a", "b", "c"])
    trainer = types.SimpleNamespace(
        datamodule=types.SimpleNamespace(dataset=lambda split: types.SimpleNamespace(source=source)),
        callback_metrics={"train/color": torch.tensor(torch.nan)},
        global_step=7,
    )
    guard = FiniteLoss(str(tmp_path))
    guard.on_train_batch_start(trainer, None, types.SimpleNamespace(index=torch.tensor([2, 0])), 0)
    guard.on_before_backward(trainer, None, torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="step 7"):
        guard.on_before_backward(trainer, None, torch.tensor(torch.nan))
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["pictures"] == ["c", "a"]
    assert report["step"] == 7


def test_collapse_is_reported_once_and_in_words() -> None:
    callback, trainer = CollapseWarning(patience=3), types.SimpleNamespace(global_step=9)
    for hit in (0.0, 0.0, 0.1, 0.0, 0.0):
        callback.on_train_batch_end(trainer, None, {"hit": torch.tensor(hit)}, None, 0)
    with pytest.warns(UserWarning, match="for 3 steps no ray inside a silhouette has met a surface"):
        callback.on_train_batch_end(trainer, None, {"hit": torch.tensor(0.0)}, None, 0)


def test_models_say_how_long_they_may_have_no_surface() -> None:
    """DVR begins without any for a while, which is no collapse."""
    assert SDFSRN.empty_steps == 50 < DVR.empty_steps
    callback, trainer = CollapseWarning(), types.SimpleNamespace(global_step=9)
    model = types.SimpleNamespace(empty_steps=2)
    callback.on_train_batch_end(trainer, model, {"hit": torch.tensor(0.0)}, None, 0)
    with pytest.warns(UserWarning, match="for 2 steps"):
        callback.on_train_batch_end(trainer, model, {"hit": torch.tensor(0.0)}, None, 0)
