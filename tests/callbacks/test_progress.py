"""The bar of a training: all its steps, whatever the epochs; values are read when they are shown."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sdfsrn.callbacks import ProgressBar
from sdfsrn.runtime import progress

METRIC = "val/error"


class Model(pl.LightningModule):
    """Its loss is the number of steps so far."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.fails_at = fails_at

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        if self.global_step == self.fails_at:
            raise KeyError("a fault")
        loss = 0 * self.weight + self.global_step
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log(METRIC, torch.tensor(float(self.global_step) / 8))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: pathlib.Path, model: Model | None = None, path: str | None = None, **options: Any) -> pl.Trainer:
    """Train with epochs of two batches and a validation every three steps."""
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
        val_check_interval=3, check_val_every_n_epoch=None, callbacks=[ProgressBar(METRIC)], default_root_dir=folder,
        **options,
    )  # fmt: skip
    trainer.fit(model or Model(), DataLoader(torch.zeros(2)), DataLoader(torch.zeros(4)), ckpt_path=path)
    return trainer


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [re.sub(r"\d\d:\d\d", "TIME", line) for line in capsys.readouterr().err.splitlines() if " steps" in line]


def test_one_bar_counts_the_steps_of_all_epochs(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    trainer = fit(tmp_path, max_steps=8)
    known = {3: f", {METRIC} 0.375", 6: f", {METRIC} 0.75"}
    expected = []
    for step in range(1, 9):
        text = f"{step}/8 steps ({100 * step / 8:.0f}%), TIME left, loss {step - 1}{known.get((step - 1) // 3 * 3, '')}"
        expected.append(f"Training: {text}")
        expected += [f"Validating {i}/4: {text}" for i in range(1, 5) if step % 3 == 0]
    assert shown(capsys) == [*expected, f"Training: 8/8 steps in TIME, loss 7, {METRIC} 0.75"]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, path=str(tmp_path / "last.ckpt"), max_steps=10)
    resumed = shown(capsys)
    assert resumed[0].startswith("Training: 9/10 steps (90%), TIME left, loss 8")
    assert resumed[-1].startswith("Training: 10/10 steps in TIME, loss 9")


@pytest.mark.parametrize("fails_at", [None, 5])
def test_values_are_read_only_to_be_shown(
    fails_at: int | None, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is waited for then; after an error it may not answer."""
    reads, read = [], ProgressBar._note
    monkeypatch.setattr(ProgressBar, "_note", lambda *given: reads.append(1) or read(*given))
    if fails_at is None:
        fit(tmp_path, max_steps=8)
        assert shown(capsys) == [f"Training: 8/8 steps in TIME, loss 7, {METRIC} 0.75"]
    else:
        with pytest.raises(KeyError):
            fit(tmp_path, Model(fails_at), max_steps=8)
        assert shown(capsys) == ["Training: 5/8 steps in TIME"]
    assert len(reads) == (fails_at is None)


def test_epochs_are_counted_in_steps_and_one_process_draws(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, max_epochs=3)
    assert shown(capsys)[0].startswith("Training: 6/6 steps in TIME")
    monkeypatch.setattr(ProgressBar, "setup", lambda bar, *_, **__: bar.disable())  # as of the second process
    fit(tmp_path, max_epochs=3)
    assert shown(capsys) == []
