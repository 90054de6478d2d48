from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from scenes import CAMERAS, disc, random_picture, scene
from sdfsrn.data.batches.augmentation import jitter_colors, zoom
from sdfsrn.data.batches.pictures import pack
from sdfsrn.data.batches.views import BatchSettings, outline_distance, pixel_size
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, pixel_centers

ZOOMS = pytest.mark.parametrize("factor", [0.8, 0.93, 1.13, 1.2])
REFERENCES = [  # by number of the change, with a factor in [-1, 1]
    lambda image, factor: v2.functional.adjust_brightness(image, 1 + 0.2 * factor),
    lambda image, factor: v2.functional.adjust_contrast(image, 1 + 0.2 * factor),
    lambda image, factor: v2.functional.adjust_saturation(image, 1 + 0.2 * factor),
    lambda image, factor: v2.functional.adjust_hue(image, factor / 2),
]
LUMA = 3e-5  # kornia's weights of grey have three digits, torchvision's four and another sum


def colors() -> torch.Tensor:
    """Random ones, and every grey, edge and corner of the cube of colours."""
    line = torch.linspace(0, 1, 3)
    special = torch.cartesian_prod(line, line, line).T
    return torch.cat([torch.rand(3, 1000 - 27), special], 1).view(3, 25, 40)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("factor", [-1.0, -0.31, 0.0, 0.17, 1.0])
def test_every_change_is_torchvisions(number: int, factor: float) -> None:
    """The other three, with a factor of 0, change nothing."""
    image, factors = colors(), torch.zeros(1, 4)
    factors[0, number] = factor
    found = jitter_colors(image[None], factors, torch.arange(4)[None])[0]
    torch.testing.assert_close(found, REFERENCES[number](image, factor), atol=LUMA, rtol=0)


def test_every_picture_has_its_own_factors_and_order() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    images = torch.stack([colors() for _ in orders])
    factors = 2 * torch.rand(len(orders), 4) - 1
    found = jitter_colors(images, factors, orders)
    for image, result, values, order in zip(images, found, factors.tolist(), orders.tolist(), strict=True):
        for number in order:
            image = REFERENCES[number](image, values[number])
        torch.testing.assert_close(result, image, atol=2 * LUMA, rtol=0)
    assert len({tuple(result.flatten().tolist()) for result in found}) == 24


def test_a_turn_of_the_hue_and_back_is_nothing() -> None:
    image, order = colors()[None], torch.arange(4)[None]
    factors = torch.tensor([[0.0, 0, 0, 0.6]])
    torch.testing.assert_close(jitter_colors(jitter_colors(image, factors, order), -factors, order), image, atol=3e-6, rtol=0)
    red, green = torch.eye(3)[:2, :, None, None]
    third = torch.tensor([[0.0, 0, 0, 2 / 3]])
    torch.testing.assert_close(jitter_colors(red[None], third, order)[0], green, atol=1e-6, rtol=0)


def test_random_changes_have_the_range_and_the_spread_of_torchvisions() -> None:
    """Mean and deviation of some colours over many draws."""
    image = torch.tensor([[0.8, 0.3, 0.5], [0.4, 0.5, 0.5], [0.2, 0.9, 0.5]])[:, None]
    reference = v2.ColorJitter(0.2, 0.2, 0.2, 0.5)
    params = BatchSettings(num_rays=1, jitter=True).draw([None] * 3000)
    ours = jitter_colors(image.expand(3000, -1, -1, -1), params.factors, params.order)
    theirs = torch.stack([reference(image) for _ in range(3000)])
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.025, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.025, rtol=0)
    assert ours.min() >= 0
    assert ours.max() <= 1


def zoomed(picture: ImageSample, factor: float) -> ImageSample:
    layers = torch.from_numpy(np.dstack([picture.image.astype(np.float32) / 255, picture.alpha]))
    larger = zoom(layers.movedim(-1, 0)[None], torch.tensor([factor]))[0].movedim(0, -1).numpy()
    return ImageSample((255 * larger[..., :3]).round().astype(np.uint8), larger[..., 3], picture.camera.zoomed(factor))


@ZOOMS
@CAMERAS
def test_the_bound_holds_in_a_zoomed_picture(kind: type, factor: float) -> None:
    """The true scene against the zoomed camera, as large as that camera's world has it; nothing of it is cut off."""
    checked = 0
    for _ in range(4):
        picture = random_picture(kind)
        if picture.alpha[[0, 1, 2, -3, -2, -1]].any() or picture.alpha[:, [0, 1, 2, 3, -4, -3, -2, -1]].any():
            continue  # would grow over the border
        larger = zoomed(picture, factor)
        camera, alpha = larger.camera.map(lambda matrix: matrix[None]), torch.from_numpy(larger.alpha)[None]
        uv = camera.image_plane(pixel_centers(24, 32)[None])
        distance = outline_distance(alpha, pixel_size(camera, 24, 32))[1].flatten(1)
        size = factor if kind is OrthographicCamera else 1.0
        depth = 0.3 + 4 * torch.rand(1, uv.shape[1], 20)
        true = size * scene(camera.rays(uv).at(depth) / size)
        bound = camera.lower_bound(depth, uv, distance)
        free = (alpha == 0).flatten(1)
        assert (bound <= true + 1e-5)[free].all()
        assert (bound > 0)[free].all()
        checked += 20 * int(free.sum())
    assert checked > 5_000


@ZOOMS
@CAMERAS
def test_a_zoomed_disc_is_the_larger_disc_farther_out(kind: type, factor: float) -> None:
    picture = zoomed(disc(kind, 64, 0.4, (0.25, -0.1)), factor)
    expected = disc(kind, 64, 0.4 * factor, (0.25 * factor, -0.1 * factor))
    inside = expected.alpha >= 0.5
    assert np.abs(picture.alpha - expected.alpha).mean() < 0.006
    assert ((picture.alpha >= 0.5) != inside).mean() < 0.002
    assert (picture.alpha[expected.alpha > 0] > 0).all()
    assert picture.alpha.sum() == pytest.approx(expected.alpha.sum(), rel=2e-3)
    assert (np.abs(picture.image[picture.alpha > 0].astype(int) - [200, 100, 50]) <= 1).all()
    assert (picture.image[picture.alpha == 0] == 255).all()


def test_zoom_by_one_is_nothing_and_a_revealed_border_is_free() -> None:
    picture = random_picture(PerspectiveCamera)
    same = zoomed(picture, 1.0)
    np.testing.assert_allclose(same.alpha, picture.alpha, atol=1e-6)
    assert np.array_equal(same.image[picture.alpha > 0], picture.image[picture.alpha > 0])
    assert all(torch.equal(a, b) for a, b in zip(same.camera, picture.camera, strict=True))
    small = zoomed(picture._replace(alpha=np.ones((24, 32), np.float32)), 0.5)
    np.testing.assert_allclose(small.alpha[8:-8, 10:-10], 1, atol=1e-6)
    assert small.alpha.sum() == pytest.approx(24 * 32 / 4, rel=1e-5)
    assert (small.alpha[:4] == 0).all()
    assert (small.image[:4] == 255).all()


def test_nothing_thin_is_lost_by_shrinking() -> None:
    """Every old pixel that is covered alone touches all the new pixels it overlaps."""
    for place in range(24):
        alpha = np.zeros((24, 24), np.float32)
        alpha[place, 23 - place] = 0.01
        picture = disc(PerspectiveCamera, 24, 0.4, (0, 0))._replace(alpha=alpha)
        for factor in (0.8, 0.87, 1.1):
            low, high = ((np.array([place, place + 1]) - 12) * factor + 12).clip(0, 24)
            rows = slice(int(low + 1e-6), math.ceil(high - 1e-6))
            touched = zoomed(picture, factor).alpha > 0
            assert touched[rows, ::-1][:, rows].all()


def test_pictures_zoom_each_by_its_own_factor() -> None:
    pictures = [random_picture(PerspectiveCamera) for _ in range(4)]
    factors = [0.5, 0.9, 1.0, 1.7]
    layers = torch.stack([torch.from_numpy(pack(p.image, p.alpha)).movedim(-1, 0) / 255 for p in pictures])
    together = zoom(layers, torch.tensor(factors))
    for i, factor in enumerate(factors):
        torch.testing.assert_close(together[i : i + 1], zoom(layers[i : i + 1], torch.tensor([factor])), atol=1e-6, rtol=0)
