"""Batches made on a device against the samples of `ViewsDataset`, their twin, of the same random numbers."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from scenes import Memory
from sdfsrn.data.batches import jitter as plain
from sdfsrn.data.batches import resident
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.resident import Recipe, Recipes, ResidentPictures
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import ViewsDataset, collate_views
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera

CPU = torch.device("cpu")


class Blobs(Memory):
    """Random outlines and colours, partly covered pixels, cameras of two focal lengths."""

    def __init__(self, kind: type, count: int = 5, size: tuple[int, int] = (24, 32)) -> None:
        super().__init__([self._picture(kind, size, np.random.default_rng(i)) for i in range(count)])

    def _picture(self, kind: type, size: tuple[int, int], random: np.random.Generator) -> ImageSample:
        rows, columns = np.indices(size)
        place, radius = random.uniform(8, 16, 2), random.uniform(3, 7)
        alpha = (radius - np.hypot(rows - place[0], columns - place[1]) + 0.5).clip(0, 1)
        alpha[random.random(size) < 0.01] = 1
        image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        pose = torch.eye(3, 4) + torch.tensor([[0, 0, 0, 0.1], [0, 0, 0, -0.2], [0, 0, 0, 2.0]])
        intrinsics = torch.tensor([[1.9, 0, 0.03], [0, 1.4, -0.1], [0, 0, 1]])
        return ImageSample(image, np.rint(alpha * 255).astype(np.float32) / 255, kind(pose, intrinsics))


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
@pytest.mark.parametrize(
    "options", [{}, {"jitter": True}, {"scale_jitter": 0.2}, {"jitter": True, "scale_jitter": 0.9}], ids=str
)
def test_batches_are_those_of_the_samples(kind: type, options: dict) -> None:
    dataset = ViewsDataset(PreloadedSource(Blobs(kind), "blobs"), 200, background=0.5, checked=True, **options)
    recipes, pictures = Recipes(dataset, 24 * 32), ResidentPictures(dataset, CPU)
    for number in range(0, 60, 6):
        draws = [SampleKey((number + i) % 5, number + i) for i in range(6)]
        ours = pictures.views(Recipe.collate([recipes[draw] for draw in draws]))
        theirs = collate_views([dataset[draw] for draw in draws])
        assert type(ours.camera) is kind
        for name in ("inside", "index", "points"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        for name in ("image", "camera", "uv", "color", "distance"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=2e-6, atol=1e-5)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale_jitter", [0.0, 0.2])
def test_rays_near_the_outline_are_those_of_the_samples(scale_jitter: float) -> None:
    """All but a few that lie, to rounding, where one pixel's share ends."""
    options = {"scale_jitter": scale_jitter, "boundary_fraction": 0.6, "checked": True}
    dataset = ViewsDataset(PreloadedSource(Blobs(PerspectiveCamera), "blobs"), 200, **options)
    recipes, pictures = Recipes(dataset, 24 * 32), ResidentPictures(dataset, CPU)
    draws = [SampleKey(i % 5, i) for i in range(30)]
    ours = pictures.views(Recipe.collate([recipes[draw] for draw in draws]))
    theirs = collate_views([dataset[draw] for draw in draws])
    same = torch.isclose(ours.uv, theirs.uv, rtol=1e-5, atol=1e-6).all(-1)
    assert (~same).sum() <= 3
    assert ours.inverse_density.std() > 0.3
    for name in ("color", "distance", "weight", "inverse_density"):
        torch.testing.assert_close(getattr(ours, name)[same], getattr(theirs, name)[same], rtol=1e-4, atol=1e-5)


def test_a_picture_that_zoom_would_spoil_stays_as_it_is() -> None:
    source = Blobs(PerspectiveCamera, 1)
    alpha = np.pad(np.ones((22, 30), np.float32), 1)
    source.pictures[0] = source.pictures[0]._replace(alpha=alpha)
    dataset = ViewsDataset(PreloadedSource(source, "full"), 50, scale_jitter=0.5, checked=True)
    recipes, pictures = Recipes(dataset, 24 * 32), ResidentPictures(dataset, CPU)
    batch = Recipe.collate([recipes[SampleKey(0, number)] for number in range(20)])
    larger = batch.chance.zoom > 1.1
    views = pictures.views(batch)
    assert larger.any()
    focal = source.pictures[0].camera.intrinsics[0, 0]
    assert (views.camera.intrinsics[larger, 0, 0] == focal).all()
    assert (views.camera.intrinsics[batch.chance.zoom < 0.9, 0, 0] < focal).all()
    assert views.distance.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
def test_batches_have_the_trainers_precision(dtype: torch.dtype) -> None:
    """Which Lightning gives what comes from the loader, before it goes to the device."""
    dataset = ViewsDataset(PreloadedSource(Blobs(PerspectiveCamera), "blobs"), 64, checked=True, jitter=True)
    recipe = Recipe.collate([Recipes(dataset, 24 * 32)[SampleKey(i, i)] for i in range(3)])
    pictures = ResidentPictures(dataset, CPU)
    expected = pictures.views(recipe)
    views = pictures.views(tree_map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, recipe))
    assert {leaf.dtype for leaf in tree_leaves(views) if leaf.is_floating_point()} == {dtype}
    torch.testing.assert_close(views.distance, expected.distance.to(dtype), rtol=0, atol=0)


def test_every_order_of_changes_is_the_samples() -> None:
    image = torch.rand(24, 3, 6, 7)
    image[:, :, 0] = image[:, :1, 0]  # greys
    orders = torch.stack([torch.randperm(4) for _ in range(24)])
    factors = 2 * torch.rand(24, 4) - 1
    ours = resident.jitter(image, factors, orders)
    for i in range(24):
        expected = plain.jitter(image[i], factors[i].tolist(), orders[i].tolist())
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=3e-6)


def test_nothing_leaves_the_device() -> None:
    """On the meta device, which knows no values: nothing is read back, and nothing is made elsewhere."""
    options = {"jitter": True, "scale_jitter": 0.2, "boundary_fraction": 0.5}
    dataset = ViewsDataset(PreloadedSource(Blobs(PerspectiveCamera), "blobs"), 64, checked=True, **options)
    meta = torch.device("meta")
    recipe = Recipe.collate([Recipes(dataset, 24 * 32)[SampleKey(i, i)] for i in range(3)])
    expected = ResidentPictures(dataset, CPU).views(recipe)
    views = ResidentPictures(dataset, meta).views(tree_map(lambda tensor: tensor.to(meta), recipe))
    for ours, theirs in zip(tree_leaves(views), tree_leaves(expected), strict=True):
        assert (ours.device.type, ours.shape, ours.dtype) == ("meta", theirs.shape, theirs.dtype)


def test_the_pictures_memory_is_shared(tmp_path: pathlib.Path) -> None:
    for folder in (None, tmp_path):
        source = PreloadedSource(Blobs(PerspectiveCamera), "blobs", folder)
        first, second = (ResidentPictures(ViewsDataset(source, 8, checked=True), CPU) for _ in range(2))
        assert first.rgba.data_ptr() == second.rgba.data_ptr()
