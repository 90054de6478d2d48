"""`compile=graph` on the CPU, with a graph that does its work again in place of replaying it."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sdfsrn import build
from sdfsrn.callbacks import CaptureSteps, graphs
from sdfsrn.runtime.graphs import CapturedFunction, CapturedStep


class AgainGraph:
    """Stands in for `Graph`: the result stays in the same memory, as a CUDA graph's does."""

    def __init__(self, work: Callable[[], Any], warmups: int = 3) -> None:
        for _ in range(warmups):
            work()
        self._work, self.result = work, work()

    def replay(self) -> None:
        for target, value in zip(tree_leaves(self.result), tree_leaves(self._work()), strict=True):
            if isinstance(target, Tensor):
                target.copy_(value)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfsrn.runtime.graphs.Graph", AgainGraph)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_check", lambda trainer, model: None)


TINY = [
    "trainer=cpu", "data.num_objects=4", "data.num_eval_objects=2", "data.shapes.views_per_object=2", "data.batch_size=4",
    "data.num_rays=16", "model.encoder.latent_dim=8", "callbacks.pretraining=null", "callbacks.pictures=null",
    "trainer.max_steps=6", "+trainer.limit_val_batches=0", "test=false", "logger=csv", "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
]  # fmt: skip


SDFSRN = [
    "model.hypernetwork.hidden_width=16", "model.hypernetwork.field.width=16", "model.losses.terms.eikonal.num_points=20",
]  # fmt: skip
RESIDUAL = [
    "model/pose=residual", "callbacks.poses.min_gain=-1", "data.pose_noise=10", "data.mirror=true", "data.shapes.image_size=24",
]  # fmt: skip
DVR = ["model=dvr", "model/encoder=small", "model.hypernetwork.width=16"]


def trained(folder: pathlib.Path, *overrides: str) -> dict[str, Tensor]:
    model, datamodule, trainer = build("quickstart", *TINY, f"paths.output={folder}", *overrides)
    trainer.fit(model, datamodule=datamodule)
    assert "step" not in model.__dict__
    assert "make_batch" not in datamodule.__dict__
    return model.state_dict()


@pytest.mark.parametrize(
    "setting",
    [
        SDFSRN,
        [*SDFSRN, "model/encoder=resnet", "model.encoder.weights=null", "data.jitter=true"],
        pytest.param(
            [
                *SDFSRN,
                "model/pose=residual",
                "callbacks.poses.min_gain=-1",
                "data.pose_noise=10",
                "data.mirror=true",
                "data.shapes.image_size=24",
            ],
            marks=pytest.mark.slow,
        ),
        [*DVR, "model.raymarcher.doublings=[2,4]"],  # whose steps have more samples as training goes on
    ],
)
def test_captured_steps_train_the_same_weights(setting: list[str], tmp_path: pathlib.Path, unchecked: None) -> None:
    """Batch statistics and random numbers included, which the capture's own executions must not change."""
    eager, captured = trained(tmp_path / "a", *setting), trained(tmp_path / "b", "compile=graph", *setting)
    assert eager.keys() == captured.keys()
    for name, value in eager.items():
        assert torch.equal(captured[name], value), name


def test_a_captured_step_has_the_gradients_of_an_ordinary_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    unused = nn.Linear(2, 2)
    whole = nn.ModuleList([model, unused])

    def step(batch: tuple[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        loss = model(batch[0]).square().mean()
        return loss, {"twice": 2 * loss}

    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    captured = CapturedStep(step, whole, (torch.rand(5, 3, dtype=torch.double),))
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    for _ in range(2):
        batch = (torch.rand(5, 3, dtype=torch.double),)
        wanted, _ = step(batch)
        wanted.backward()
        grads = [parameter.grad.clone() for parameter in model.parameters()]
        whole.zero_grad()
        loss, values = captured(batch)
        loss.backward()
        assert torch.equal(loss, wanted)
        assert torch.equal(values["twice"], 2 * wanted)
        assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
        assert unused.weight.grad is None
        whole.zero_grad()


def test_batches_of_another_size_are_refused() -> None:
    function = CapturedFunction(lambda batch: batch["x"] + 1, {"x": torch.zeros(3)})
    assert function({"x": torch.ones(3)}).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="one size with compile=graph"):
        function({"x": torch.ones(4)})


@pytest.mark.parametrize(
    ("change", "capturable", "needle"),
    [
        ({"strategy": SingleDeviceStrategy(torch.device("cpu"))}, True, "trainer.accelerator=gpu"),
        ({"strategy": types.SimpleNamespace(root_device=torch.device("cuda"))}, True, "strategy=auto"),
        ({"precision": "bf16-mixed"}, True, "precision=fp32 or tf32"),
        ({"accumulate_grad_batches": 2}, True, "trainer.accumulate_grad_batches=1"),
        ({}, False, "a model whose work does not depend on values"),
    ],
)
def test_what_cannot_be_captured_is_refused_in_words(change: dict[str, Any], capturable: bool, needle: str) -> None:
    class OneGpu(SingleDeviceStrategy):
        root_device = torch.device("cuda")

    good = {"strategy": OneGpu(torch.device("cpu")), "precision": "32-true", "accumulate_grad_batches": 1}
    model = types.SimpleNamespace(capturable=capturable)
    with pytest.raises(ValueError, match=f"Expected {needle}.* with compile=graph"):
        graphs._check(types.SimpleNamespace(**{**good, **change}), model)
    graphs._check(types.SimpleNamespace(**good), types.SimpleNamespace(capturable=True))


def test_without_a_gpu_nothing_is_trained(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.accelerator=gpu with compile=graph"):
        trained(tmp_path, *SDFSRN, "compile=graph")


def test_the_callback_is_chosen_by_a_config_group(tmp_path: pathlib.Path) -> None:
    _, _, trainer = build("quickstart", *TINY, *SDFSRN, f"paths.output={tmp_path}", "compile=graph")
    assert any(isinstance(callback, CaptureSteps) for callback in trainer.callbacks)
