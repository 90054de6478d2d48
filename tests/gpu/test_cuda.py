"""What only a CUDA device can show: the CPU's numbers, captured steps, evaluation. `pytest tests/gpu` on a machine with one."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sdfsrn import EvaluationProtocol, build
from sdfsrn.data.batches.datasets import RawBatch
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import make_views
from sdfsrn.system import ShapeModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NOTHING CHECKED ON A GPU: THERE IS NO CUDA DEVICE"),
]

DATA = ["data.num_objects=6", "data.num_eval_objects=2", "data.shapes.views_per_object=2", "data.batch_size=4"]
MODELS = {
    "sdfsrn": ["model=sdfsrn", "data.num_rays=128", "model.losses.terms.eikonal.num_points=500"],
    "pascal3d": ["model=pascal3d", "geometry=orthographic", "data.num_rays=128", "model.losses.terms.eikonal.num_points=500"],
    "occupancy": ["model=sdfsrn", "model/losses=occupancy", "data.num_rays=128"],
    "quick": ["model=quick"],
    "dvr": ["model=dvr", "data.num_rays=64"],
    "dvr_depth": ["model=dvr_depth", "data.num_rays=64"],
    "softras": ["model=softras"],
    "cmr": ["model=cmr", "geometry=orthographic", "model.losses.weights.texture=0"],
}
CAPTURED = [name for name in MODELS if name not in ("softras", "cmr")]


def built(folder: pathlib.Path, name: str, *overrides: str) -> Any:
    weights = [] if name in ("quick", "softras") else ["model.encoder.weights=null"]
    adam = ["optimizer=adam", "scheduler=constant"]
    return build("quickstart", *DATA, *MODELS[name], *weights, *adam, "trainer=gpu", f"paths.output={folder}", *overrides)


@pytest.fixture
def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.rand` draws on the CPU in float64, whatever the device: a GPU's generator is another one."""
    original = torch.rand

    def rand(*shape: Any, device: Any = None, dtype: Any = None, **options: Any) -> Tensor:
        return original(*shape, dtype=torch.double, **options).to(device or "cpu", dtype or torch.float)

    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(torch, "rand_like", lambda like: rand(*like.shape, device=like.device, dtype=like.dtype))


def loss_and_gradients(model: ShapeModel, views: Any) -> Iterator[tuple[str, Tensor]]:
    torch.manual_seed(1)
    loss, values = model.step(views)
    grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    yield "loss", loss.detach().cpu()
    for name, value in values.items():
        yield name, value.detach().cpu()
    flat = torch.cat([grad.flatten().cpu() for grad in grads if grad is not None])
    yield "gradient", flat


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_in_float64_are_the_cpus(
    name: str, tmp_path: pathlib.Path, same_draws: None, record_property: Callable[[str, Any], None]
) -> None:
    model, datamodule, _ = built(tmp_path, name)
    model = model.double().train()
    dataset = datamodule.dataset("train")
    views = dataset.views([SampleKey(i, i) for i in range(4)])
    views = tree_map(lambda t: t.double() if t.is_floating_point() else t, views)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    reference = dict(loss_and_gradients(model, views))
    model.load_state_dict(state)
    found = dict(loss_and_gradients(model.cuda(), tree_map(Tensor.cuda, views)))
    errors = {
        key: float((found[key] - value).double().norm() / value.double().norm().clamp(min=1e-12))
        for key, value in reference.items()
    }
    record_property("errors", {key: f"{error:.1e}" for key, error in errors.items()})
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("name", ["quick", "pascal3d", "softras"])
def test_batches_are_the_cpus(name: str, tmp_path: pathlib.Path) -> None:
    _, datamodule, _ = built(tmp_path, name, "data.jitter=true", "data.scale_jitter=0.2", "data.mirror=true")
    dataset = datamodule.dataset("train")
    batch = dataset.__getitems__([SampleKey(i, i) for i in range(4)])
    there = RawBatch(*tree_map(Tensor.cuda, tuple(batch)))
    reference, found = (make_views(*b, dataset.settings) for b in (batch, there))
    for field, value in zip(reference._fields, reference, strict=True):
        if isinstance(value, Tensor) and value.numel():
            other = getattr(found, field).cpu()
            agree = torch.isclose(other.double(), value.double(), atol=5e-3, rtol=1e-4)  # a colour is rounded to 255ths
            assert agree.double().mean() > 0.999, field


def losses(folder: pathlib.Path) -> list[float]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_training_is_eager_training(
    name: str, tmp_path: pathlib.Path, record_property: Callable[[str, Any], None]
) -> None:
    """20 steps: the same losses to rounding, whose growth is the same between two eager trainings."""
    short = [
        "trainer.max_steps=20", "trainer.log_every_n_steps=1", "+trainer.limit_val_batches=0", "callbacks.pictures=null",
        "callbacks.pretraining.iterations=100",
    ]  # fmt: skip
    found = {}
    for way in ("none", "graph"):
        model, datamodule, trainer = built(tmp_path / way, name, f"compile={way}", *short)
        trainer.fit(model, datamodule=datamodule)
        found[way] = np.array(losses(tmp_path / way))
    difference = np.abs(found["graph"] / found["none"] - 1)
    record_property("differences", difference.tolist())
    assert len(found["graph"]) == 20
    assert difference[:3].max() < 1e-4
    assert np.median(difference) < 0.02


class Strict(pl.Callback):
    """From the fourth step to the last but one, whatever waits for the device is an error."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if 3 <= trainer.global_step < trainer.max_steps - 1 else "default")

    def teardown(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("way", ["none", "graph"])
@pytest.mark.parametrize("name", ["quick", "pascal3d", "dvr_depth"])
def test_no_step_waits(name: str, way: str, optimizer: str, tmp_path: pathlib.Path) -> None:
    """Apart from log steps and the progress bar; tests/test_waiting.py counts on a CPU."""
    short = ["trainer.max_steps=9", "trainer.log_every_n_steps=100", "+trainer.limit_val_batches=0"]
    quiet = ["+trainer.enable_progress_bar=false", "callbacks.pretraining=null"]
    model, datamodule, trainer = built(tmp_path, name, f"compile={way}", f"optimizer={optimizer}", *short, *quiet)
    trainer.callbacks.insert(0, Strict())
    trainer.fit(model, datamodule=datamodule)
    assert trainer.global_step == 9


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_loss_that_is_not_finite_leaves_the_weights_finite(optimizer: str, tmp_path: pathlib.Path) -> None:
    short = ["trainer.max_steps=9", "callbacks.pretraining=null", f"optimizer={optimizer}"]
    model, datamodule, trainer = built(tmp_path, "quick", *short)
    step = model.step

    def spoiled(views: Any) -> Any:
        loss, values = step(views)
        return loss * (torch.nan if trainer.global_step == 4 else 1.0), values

    model.step = spoiled
    with pytest.raises(FloatingPointError, match="at step 4"):
        trainer.fit(model, datamodule=datamodule)
    assert trainer.global_step <= 7
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("kernel", ["triton", "triton_bf16x3"])
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("name", ["sdfsrn", "pascal3d", "quick"])
def test_kernels_compute_the_plain_loss_and_gradients(
    name: str, precision: str, kernel: str, tmp_path: pathlib.Path, record_property: Callable[[str, Any], None]
) -> None:
    """Both in float32 or TF32 against float64; the kernel's error may be a few times the plain operations'."""
    found, before = {}, torch.get_float32_matmul_precision()
    for way, dtype in (("plain", torch.double), ("plain", torch.float), (kernel, torch.float)):
        pl.seed_everything(0)
        model, datamodule, _ = built(tmp_path, name, f"model.hypernetwork.field.kernel={way}")
        model = model.to(dtype).cuda().train()
        views = datamodule.dataset("train").views([SampleKey(i, i) for i in range(4)])
        views = tree_map(lambda t: (t.to(dtype) if t.is_floating_point() else t).cuda(), views)  # noqa: B023
        torch.set_float32_matmul_precision("highest" if dtype == torch.double else precision)
        found[way, dtype] = dict(loss_and_gradients(model, views))
    torch.set_float32_matmul_precision(before)
    truth, plain, fused = found.values()
    errors = {
        key: [float((other[key].double() - value).norm() / value.norm().clamp(min=1e-12)) for other in (plain, fused)]
        for key, value in truth.items()
    }
    record_property("errors", {key: [f"{error:.1e}" for error in pair] for key, pair in errors.items()})
    assert errors["loss"][1] < 4 * errors["loss"][0] + 1e-4, errors
    assert errors["gradient"][1] < 4 * errors["gradient"][0] + 1e-3, errors


@pytest.mark.parametrize("way", ["none", "graph"])
def test_a_training_with_kernels_learns_as_without(way: str, tmp_path: pathlib.Path) -> None:
    short = ["trainer.max_steps=20", "trainer.log_every_n_steps=1", "+trainer.limit_val_batches=0", "callbacks.pictures=null"]
    found = {}
    for kernel in ("plain", "triton"):
        overrides = [f"model.hypernetwork.field.kernel={kernel}", f"compile={way}", "callbacks.pretraining.iterations=100"]
        model, datamodule, trainer = built(tmp_path / kernel, "sdfsrn", *short, *overrides)
        trainer.fit(model, datamodule=datamodule)
        found[kernel] = np.array(losses(tmp_path / kernel))
    assert np.median(np.abs(found["triton"] / found["plain"] - 1)) < 0.02


def test_the_benchmark_runs_all_ways_side_by_side(tmp_path: pathlib.Path) -> None:
    ways = "[plain,graph,inductor,inductor+graph,triton,triton+graph]"
    arguments = ["data.batch_size=2", "steps=2", f"compare={ways}", "accelerator=gpu", f"json={tmp_path}/b.json"]
    small = ["data.num_rays=64", "model.encoder.weights=null", f"paths.output={tmp_path}", f"paths.cache={tmp_path}"]
    subprocess.run([sys.executable, "-m", "sdfsrn.benchmark", *arguments, *small], check=True)
    variants = json.loads((tmp_path / "b.json").read_text())["variants"]
    assert set(variants) == {"sdfsrn", *ways.strip("[]").split(",")}
    assert variants["triton"]["kernels"] < variants["sdfsrn"]["kernels"] < variants["plain"]["kernels"]
    assert all(values["flops_per_second"] > 0 for values in variants.values())


def test_meshes_and_measures_are_the_cpus(tmp_path: pathlib.Path) -> None:
    model, datamodule, _ = built(tmp_path, "quick")
    model = model.eval()
    protocol = EvaluationProtocol(resolution=48, num_points=20_000)
    image = datamodule.dataset("test").views([0]).image
    truth = torch.from_numpy(datamodule.source("test").points(0))
    found = []
    for device in ("cpu", "cuda"):
        with torch.no_grad():
            mesh = model.to(device)(image.to(device))[0:1].mesh(protocol.grid, color=False)
        points = protocol.sample(mesh)
        found.append((len(mesh.vertices), float(torch.cdist(points[:2000].float(), truth[:2000].float()).amin(1).mean())))
    assert found[0][0] == pytest.approx(found[1][0], rel=0.01)
    assert found[0][1] == pytest.approx(found[1][1], rel=0.02)


@pytest.mark.parametrize("name", ["softras", "cmr"])
def test_mesh_models_repeat_themselves_bit_for_bit(name: str, tmp_path: pathlib.Path) -> None:
    """Sums of the rasteriser in the order of the pairs; `index_add` would add in any order."""
    model, datamodule, _ = built(tmp_path, name)
    model.cuda().train()
    views = tree_map(Tensor.cuda, datamodule.dataset("train").views([SampleKey(i, i) for i in range(4)]))
    found = []
    for _ in range(2):
        meshes = model(views.image)
        vertices = meshes.vertices.detach().requires_grad_()
        alpha = model.render(dataclasses.replace(meshes, vertices=vertices), views).alpha
        found.append((alpha.detach(), *torch.autograd.grad(alpha.square().sum(), vertices)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
