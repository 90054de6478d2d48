"""Workloads to time: a training step and an evaluation, each also by its reference implementation, and the ways to a batch."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor, nn

from sdfsrn.benchmarking.instruments import peak_memory, synchronize
from sdfsrn.benchmarking.plain import PlainField, PlainHypernetwork, PlainRayMarcher, plain_chamfer, plain_grid, plain_icp
from sdfsrn.checkpoints.loading import without_downloads
from sdfsrn.data.batches.datasets import DrawDataset, PictureDataset
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import BatchSettings, make_views
from sdfsrn.functional.pointcloud import match
from sdfsrn.functional.triangulation import triangulate
from sdfsrn.kernels import check_kernels
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models.field import Field, FieldConfig, Linear
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.graphs import CapturedStep
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN

FORMS = ("sdfsrn", "ordinary", "plain")  # of the model
WAYS = ("graph", "inductor", "triton", "triton_bf16x3")  # of running a step of it
_REPEATED = 10  # batches that are timed together
PARTS = ("encoder", "hypernetwork", "march", "losses", "backward", "optimizer")


class Training(NamedTuple):
    """A model, its optimizer, and the one batch that it is given again and again; `captured` is its step as a graph."""

    model: SDFSRN
    optimizer: torch.optim.Optimizer
    views: Views
    captured: Callable[[Views], tuple[Tensor, dict[str, Tensor]]] | None = None

    def step(self, lap: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
        """One step, with `lap` called after each of `PARTS`, where it is not captured; the losses."""
        self.optimizer.zero_grad()
        loss, terms = self.forward(self.views, lap) if self.captured is None else self.captured(self.views)
        loss.backward()
        lap()
        self.optimizer.step()
        lap()
        return {"loss": loss, **terms}

    def forward(self, views: Views, lap: Callable[[], None] = lambda: None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms."""
        model = self.model
        latent = model.encoder(views.image)
        lap()
        field = model.hypernetwork(latent)
        lap()
        march = model.raymarcher(field, views.camera.rays(views.uv))
        lap()
        loss, terms = model.losses(field, march, views)
        lap()
        return loss, terms

    def timed_step(self) -> dict[str, float]:
        """Seconds of each part, their sum `step`, and `processor`: of all cores, without the time that other jobs had them.

        Of a captured step, `backward` is all that is captured.
        """
        device = self.views.image.device
        synchronize(device)
        times, processor = [time.perf_counter()], time.process_time()

        def lap() -> None:
            synchronize(device)
            times.append(time.perf_counter())

        self.step(lap)
        names = PARTS[-len(times) + 1 :]
        parts = {name: after - before for name, before, after in zip(names, times[:-1], times[1:], strict=True)}
        return parts | {"step": times[-1] - times[0], "processor": time.process_time() - processor}


def trainings(config: Mapping[str, Any], variants: tuple[str, ...], device: torch.device) -> dict[str, Training]:
    """Variants of one model with the same weights and batch, from the nodes of a composed configuration.

    Nothing is downloaded. The reference implementation has an unfused Adam.

    Raises:
        ValueError: a model that is not implicit, or without such a form, or a device without graphs or kernels.
    """
    if "hypernetwork" not in config["model"]:
        raise ValueError("Expected an implicit model (SDF-SRN, DVR) for part=step; part=learning measures any model.")
    views, found = _batch(config, device), {}
    for name in variants:
        torch.manual_seed(0)
        form, ways = split_variant(name)
        _check_ways(ways, device)
        model: SDFSRN = instantiate(variant(without_downloads(config["model"]), name)).to(device).train()
        unfused = form == "plain" and config["optimizer"]["_target_"].endswith(".Adam")
        adam = {"foreach": False, "fused": False} if unfused else {}
        training = Training(model, instantiate(config["optimizer"], **adam)(model.parameters()), views)
        if "inductor" in ways:
            for term in model.losses.terms.values():
                term.compile(dynamic=False)
        if "graph" in ways:
            training = training._replace(captured=CapturedStep(training.forward, model, views))
        found[name] = training
    return found


def split_variant(name: str) -> tuple[str, list[str]]:
    """The form of the model and the ways of running it, from their names joined by `+`.

    >>> split_variant("triton+graph")
    ('sdfsrn', ['triton', 'graph'])

    Raises:
        ValueError: an unknown name, or two forms.
    """
    words = name.split("+")
    forms = [word for word in words if word in FORMS]
    if len(forms) > 1 or len(set(words)) < len(words) or not set(words) <= {*FORMS, *WAYS}:
        raise ValueError(f"Expected compare= of {', '.join((*FORMS[1:], *WAYS))}, or some joined by +, got compare={name}.")
    return (*forms, FORMS[0])[0], [word for word in words if word in WAYS]


def _check_ways(ways: list[str], device: torch.device) -> None:
    if "graph" in ways and device.type != "cuda":
        raise ValueError(f"Expected a CUDA device (trainer.accelerator=gpu) with compare=graph, got {device.type}.")
    if any(way.startswith("triton") for way in ways):
        check_kernels(device)


def variant(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The node of a model as configured, with the ordinary backbone, with kernels, or of its reference implementation.

    Raises:
        ValueError: a model without them.
    """
    form, ways = split_variant(name)
    kernels = [way for way in ways if way.startswith("triton")]
    if (form != "sdfsrn" or kernels) and "field" not in model["hypernetwork"]:
        raise ValueError(f"Expected SDF-SRN with compare={name}: no other model has such a form.")
    if form == "plain":
        return plain_model(model)
    changes = {"kernel": kernels[0]} if kernels else {}
    if form == "ordinary":
        changes["backbone"] = "ordinary"
    if not changes:
        return model
    hypernetwork = model["hypernetwork"]
    return {**model, "hypernetwork": {**hypernetwork, "field": {**hypernetwork["field"], **changes}}}


def plain_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The node of a model's reference implementation, as `model=plain` has it.

    Raises:
        ValueError: a ray marcher that the released code does not have.
    """
    if not model["raymarcher"]["_target_"].endswith("LSTMRayMarcher"):
        raise ValueError("Expected model/raymarcher=lstm: the reference implementation has no other.")
    targets = {"hypernetwork": PlainHypernetwork, "raymarcher": PlainRayMarcher}
    return {**model, **{name: {**model[name], "_target_": _path(target)} for name, target in targets.items()}}


def _path(target: type) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def peak_of_steps(config: Mapping[str, Any], variant: str, device: str, threads: int, steps: int = 2) -> dict[str, int]:
    """Bytes before there is a model, and the most while it is trained for some steps; of the process that this runs in."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    before = peak_memory(torch.device(device))
    training = trainings(config, (variant,), torch.device(device))[variant]
    for _ in range(steps):
        training.step()
    return {"before": before, "peak": peak_memory(torch.device(device))}


class Object(NamedTuple):
    """One shape to be measured, and the true points of it."""

    layers: list[Linear]
    shape: FieldConfig
    truth: Tensor


def fitted_object(config: Mapping[str, Any], steps: int = 200, num_points: int = 2000) -> Object:
    """A field of the configured architecture, fitted to the signed distance of the first validation shape, on the CPU.

    So there is a surface to measure without a trained model.

    Raises:
        ValueError: a model without a field.
    """
    if "field" not in config["model"].get("hypernetwork", ()):
        raise ValueError("Expected SDF-SRN for part=evaluation, whose field is fitted and measured.")
    source = instantiate(config["pictures"], split="val", num_objects=1)
    shape: FieldConfig = instantiate(config["model"]["hypernetwork"]["field"])
    generator = torch.Generator().manual_seed(0)
    layers = [
        Linear(
            bias=torch.zeros(1, 1, outputs, requires_grad=True),
            weight=(torch.randn(1, inputs, outputs, generator=generator) / inputs**0.5).requires_grad_(),
        )
        for inputs, outputs in shape.layers
    ]
    optimizer = torch.optim.Adam(itertools.chain(*layers), 3e-3)
    for _ in range(steps):
        points = 1.4 * torch.rand(1, num_points, 3, generator=generator) - 0.7
        optimizer.zero_grad()
        nn.functional.l1_loss(Field(layers, shape).sdf(points)[0], source.shape(0).sdf(points[0])).backward()
        optimizer.step()
    fitted = [Linear(*(tensor.detach() for tensor in layer)) for layer in layers]
    return Object(fitted, shape, torch.from_numpy(source.points(0)))


def evaluations(thing: Object, protocol: EvaluationProtocol) -> dict[str, Callable[[], Iterator[tuple[str, Any]]]]:
    """The stages of an evaluation, each yielded when it is done with its name and what came of it, ending in the metrics."""
    truth = protocol.ground_truth(thing.truth)

    def ours(backbone: str) -> Iterator[tuple[str, Any]]:
        mesh = Field(thing.layers, dataclasses.replace(thing.shape, backbone=backbone)).mesh(protocol.grid, color=False)
        yield "mesh", mesh
        points = protocol.sample(mesh)
        yield "points", points
        points = protocol.align(points, truth)
        yield "icp", points
        found = match(points, truth)
        yield "chamfer", {"accuracy": float(found.accuracy.mean()), "coverage": float(found.coverage.mean())}

    def plain() -> Iterator[tuple[str, Any]]:
        low, high, nodes = protocol.low, protocol.high, protocol.resolution
        grid = plain_grid(PlainField(thing.layers, thing.shape), nodes, low, high)
        vertices, faces = triangulate(grid.numpy())
        mesh = trimesh.Trimesh(low + vertices / nodes * (high - low), faces)
        yield "mesh", mesh
        points = np.asarray(mesh.sample(protocol.num_points))
        yield "points", points
        target = truth.double().numpy()
        points = plain_icp(points, target, protocol.icp_iterations)
        yield "icp", points
        accuracy, coverage, _ = plain_chamfer(points, target)
        yield "chamfer", {"accuracy": float(accuracy.mean()), "coverage": float(coverage.mean())}

    return {
        "sdfsrn": functools.partial(ours, thing.shape.backbone),
        "ordinary": functools.partial(ours, "ordinary"),
        "plain": plain,
    }


def deliveries(config: Mapping[str, Any], device: torch.device) -> dict[str, Callable[[], dict[str, float]]]:
    """Steps on the way to a training batch, each giving its seconds per picture.

    A worker of the loader delivers random numbers (`draws`) if pictures are on the device, else pictures and random numbers
    (`pictures`); from either the device makes `batches`.
    """
    source = PreloadedSource(instantiate(config["pictures"]), "train")
    names = ("num_rays", "boundary_fraction", "jitter", "scale_jitter")
    settings = BatchSettings(**{name: config["data"][name] for name in names}, training=True)
    keys = [SampleKey(i, i) for i in range(len(source))]
    draws, pictures = DrawDataset(settings), PictureDataset(source, settings, checked=True)
    stored = source.pictures().to(device)
    rows, params = torch.utils._pytree.tree_map(lambda tensor: tensor.to(device), draws.__getitems__(keys))
    works: dict[str, Callable[[], Any]] = {
        "draws": lambda: draws.__getitems__(keys),
        "batches": lambda: make_views(stored.select(rows), params, settings),
        "pictures": lambda: pictures.__getitems__(keys),
    }

    def timed(work: Callable[[], Any]) -> dict[str, float]:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(_REPEATED):
            work()
        synchronize(device)
        return {"picture": (time.perf_counter() - start) / (_REPEATED * len(keys))}

    return {name: functools.partial(timed, work) for name, work in works.items()}


def _batch(config: Mapping[str, Any], device: torch.device) -> Views:
    dataset = PictureDataset(instantiate(config["pictures"]), BatchSettings(config["num_rays"]))
    views = dataset.views(range(len(dataset)))
    return torch.utils._pytree.tree_map(lambda tensor: tensor.to(device), views)
