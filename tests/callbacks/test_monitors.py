from __future__ import annotations

import types
from collections.abc import Mapping

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch.utils.data import DataLoader

from sdfsrn.callbacks import LogOptimization, LogThroughput, monitors


class Memory(DummyLogger):
    """What was logged, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, Mapping[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))


class Model(pl.LightningModule):
    """Gradients of the weights at step n: 3 (n + 1) and 4 (n + 1) for the encoder, 12 (n + 1) for the head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.frozen = (torch.nn.Linear(n, 1, bias=False) for n in (2, 1, 5))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        encoder, head = self.encoder.weight @ torch.tensor([3.0, 4.0]), 12 * self.head.weight
        return (self.global_step + 1) * (encoder.sum() + head.sum())

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        decay = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def test_optimization_is_logged_at_log_steps_before_clipping() -> None:
    memory = Memory()
    trainer = pl.Trainer(
        max_steps=6, log_every_n_steps=3, logger=memory, callbacks=[LogOptimization()], accelerator="cpu",
        gradient_clip_val=1e-3, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Model(), DataLoader(torch.zeros(6, 1)))
    rows = [(step, row) for step, row in memory.rows if "learning_rate" in row]
    assert [step for step, _ in rows] == [2, 5]
    for step, row in rows:
        assert row["learning_rate"] == 0.5 ** (step + 1)
        gradients = {name: value for name, value in row.items() if name.startswith("gradient/")}
        expected = {"gradient/encoder": 5.0, "gradient/head": 12.0, "gradient/total": 13.0}
        assert gradients == pytest.approx({name: (step + 1) * value for name, value in expected.items()})


def test_throughput_counts_loading_but_not_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = 0.0, []
    monkeypatch.setattr(monitors.time, "perf_counter", lambda: now)
    trainer = types.SimpleNamespace(global_step=7, log_every_n_steps=5, world_size=2)
    module = types.SimpleNamespace(log_dict=found.append)
    batch, callback = types.SimpleNamespace(image=torch.zeros(8, 3, 4, 4)), LogThroughput()
    callback.on_train_start(trainer, module)
    for _ in range(8):
        now += 0.5  # loading
        callback.on_train_batch_start(trainer, module, batch, 0)
        now += 1.5
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, {}, batch, 0)
        if trainer.global_step == 12:
            callback.on_validation_start(trainer, module)
            now += 1000  # until the next batch is there
    assert found == [
        {"throughput/images_per_second": 3 * 16 / 6, "throughput/steps_per_second": 3 / 6},
        {"throughput/images_per_second": 5 * 16 / 9.5, "throughput/steps_per_second": 5 / 9.5},
    ]


def test_throughput_of_accumulated_gradients_counts_optimizer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = 0.0, []
    monkeypatch.setattr(monitors.time, "perf_counter", lambda: now)
    trainer = types.SimpleNamespace(global_step=0, log_every_n_steps=1, world_size=1)
    module = types.SimpleNamespace(log_dict=found.append)
    batch, callback = types.SimpleNamespace(image=torch.zeros(3, 1)), LogThroughput()
    callback.on_train_start(trainer, module)
    for batch_index in range(8):
        now += 1.0
        trainer.global_step = (batch_index + 1) // 4
        callback.on_train_batch_end(trainer, module, {}, batch, batch_index)
    assert found == [{"throughput/images_per_second": 3.0, "throughput/steps_per_second": 0.25}] * 2
