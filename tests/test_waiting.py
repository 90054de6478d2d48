"""No training step waits for the device, with all callbacks that the configurations name; counted on the CPU by a stand-in."""

from __future__ import annotations

import pathlib
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from sdfsrn import build
from tiny import MODEL, PICTURES
from waiting import DEVICE, PretendedDevice, Wait

STEPS, INTERVAL, FIRST = 5, 3, 1  # the first step may check what it has got
SHORT = [
    "data.num_objects=4", "data.num_eval_objects=2", "data.shapes.views_per_object=2", "data.batch_size=4",
    "trainer=cpu", f"trainer.max_steps={STEPS}", f"trainer.log_every_n_steps={INTERVAL}", "+trainer.limit_val_batches=0",
    "callbacks.pretraining.iterations=1",
]  # fmt: skip
LSTM = ["model/raymarcher=lstm", "model.raymarcher.num_steps=2", "model.raymarcher.num_bisections=2"]
RESNET = ["model/encoder=resnet", "model.encoder.weights=null"]
SETTINGS = {
    "quickstart": MODEL,
    "paper": [*MODEL, *LSTM, *RESNET, "optimizer=adam", "data.jitter=true"],
    "poses": [
        *MODEL,
        "model/pose=residual",
        "callbacks.poses=null",
        "data.pose_noise=10",
        "data.mirror=true",
        "optimizer=adam",
    ],
    "dvr_depth": ["model=dvr_depth", "model/encoder=small", "model.encoder.latent_dim=16", "model.hypernetwork.width=16"],
}


class Watch(pl.Callback):
    """Collects the waits of each step, from its batch's start to the next one's."""

    def __init__(self, device: PretendedDevice) -> None:
        self.device = device
        self.steps: list[list[Wait]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.device.waits = []
        self.steps.append(self.device.waits)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PretendedDevice:
    event = types.SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    return PretendedDevice()


def drawn(wait: Wait) -> bool:
    """Whether the progress bar, which is drawn at times, asked for a value."""
    return any("/progress.py:" in place and "sdfsrn" in place for place in wait.where)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_step_waits_for_the_device(name: str, tmp_path: pathlib.Path, device: PretendedDevice) -> None:
    model, datamodule, trainer = build("quickstart", *PICTURES, *SHORT, f"paths.output={tmp_path}", *SETTINGS[name])
    trainer.strategy._root_device = DEVICE
    watch = Watch(device)
    trainer.callbacks.insert(0, watch)
    device.mark([*model.parameters(), *model.buffers()])
    start = time.monotonic()
    with device.entered():
        trainer.fit(model, datamodule=datamodule)
    assert trainer.global_step == len(watch.steps) == STEPS
    steps = watch.steps[FIRST:-1]  # the last one ends with the checkpoint
    for number, waits in enumerate(steps, FIRST + 1):
        found = [f"{wait.what} at {', '.join(wait.where[-9:-3])}" for wait in waits if not drawn(wait)]
        assert bool(found) == (number % INTERVAL == 0), (number, found)
    assert sum(drawn(wait) for waits in steps for wait in waits) <= 2 * (1 + (time.monotonic() - start) / 0.4)


WAITING: dict[str, Callable[[Tensor], Any]] = {
    "item": Tensor.item,
    "float": float,
    "bool": bool,
    "tolist": Tensor.tolist,
    "cpu": Tensor.cpu,
    "to the host": lambda x: x.to("cpu"),
    "numpy": lambda x: x.detach().numpy(),
    "text": lambda x: f"{x:.3f}",
    "nonzero": torch.nonzero,
    "mask": lambda x: x[None][x[None] > 0],
    "a number to the device": lambda x: torch.tensor(1.0, device=x.device),
    "numbers to the device": lambda x: x.new_tensor([1.0]),
    "gradient": lambda x: torch.autograd.grad(x.requires_grad_().square(), x)[0].item(),
}
WORKING: dict[str, Callable[[Tensor], Any]] = {
    "product": lambda x: 2 * x,
    "zeros": torch.zeros_like,
    "to its device": lambda x: x.to(x.device),
    "where": lambda x: torch.where(x > 0, x, 0),
    "queued copy": lambda x: x.to("cpu", non_blocking=True).item(),
    "the host's": lambda x: torch.ones(3).tolist(),
    "shape": lambda x: x.shape,
    "a number of the host": lambda x: torch.tensor(1.0),
    "is_cuda": lambda x: x.is_cuda,
}


@pytest.mark.parametrize(("name", "waits"), [*((n, 1) for n in WAITING), *((n, 0) for n in WORKING)])
def test_the_stand_in_notices_waiting_and_nothing_else(name: str, waits: int, device: PretendedDevice) -> None:
    with device.entered():
        value = device.mark(torch.tensor(0.5))
        assert (value + 1).is_cuda
        assert not torch.ones(1).is_cuda
        ({**WAITING, **WORKING})[name](value * 2)
    assert bool(device.waits) == bool(waits), [wait.what for wait in device.waits]
