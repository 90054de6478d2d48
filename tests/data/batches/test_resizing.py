from __future__ import annotations

import numpy as np
import pytest
import torch

from scenes import CAMERAS, Memory, disc, random_picture, scene
from sdfsrn.data.batches.resizing import resize, zoom
from sdfsrn.data.batches.views import ViewsDataset, collate_views
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera

ZOOMS = pytest.mark.parametrize("factor", [0.8, 0.93, 1.13, 1.2])


@ZOOMS
@CAMERAS
def test_the_bound_holds_in_a_zoomed_picture(kind: type, factor: float) -> None:
    """The true scene against the zoomed camera, as large as that camera's world has it; nothing of it is cut off."""
    checked = 0
    for _ in range(4):
        picture = random_picture(kind)
        if picture.alpha[[0, 1, 2, -3, -2, -1]].any() or picture.alpha[:, [0, 1, 2, 3, -4, -3, -2, -1]].any():
            continue  # would grow over the border
        zoomed = zoom(picture, factor)
        views = collate_views([ViewsDataset(Memory([zoomed]))[0]])
        size = factor if kind is OrthographicCamera else 1.0
        depth = 0.3 + 4 * torch.rand(1, views.uv.shape[1], 20)
        true = size * scene(views.camera.rays(views.uv).at(depth) / size)
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        free = torch.from_numpy(zoomed.alpha == 0).view(1, -1)
        assert (bound <= true + 1e-5)[free].all()
        assert (bound > 0)[free].all()
        checked += 20 * int(free.sum())
    assert checked > 5_000


@ZOOMS
@CAMERAS
def test_a_zoomed_disc_is_the_larger_disc_farther_out(kind: type, factor: float) -> None:
    picture = zoom(disc(kind, 64, 0.4, (0.25, -0.1)), factor)
    expected = disc(kind, 64, 0.4 * factor, (0.25 * factor, -0.1 * factor))
    inside = expected.alpha >= 0.5
    assert np.abs(picture.alpha - expected.alpha).mean() < 0.006
    assert ((picture.alpha >= 0.5) != inside).mean() < 0.002
    assert (picture.alpha[expected.alpha > 0] > 0).all()
    assert picture.alpha.sum() == pytest.approx(expected.alpha.sum(), rel=2e-3)
    assert (np.abs(picture.image[picture.alpha > 0].astype(int) - [200, 100, 50]) <= 1).all()
    assert (picture.image[picture.alpha == 0] == 255).all()
    assert picture.image.shape == (64, 64, 3)
    assert picture.image.dtype == np.uint8


def test_zoom_by_one_is_nothing_and_a_revealed_border_is_free() -> None:
    picture = random_picture(PerspectiveCamera)
    same = zoom(picture, 1.0)
    np.testing.assert_allclose(same.alpha, picture.alpha, atol=1e-6)
    assert np.array_equal(same.image[picture.alpha > 0], picture.image[picture.alpha > 0])
    assert all(torch.equal(a, b) for a, b in zip(same.camera, picture.camera, strict=True))
    small = zoom(picture._replace(alpha=np.ones((24, 32), np.float32)), 0.5)
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
            rows = slice(int(low + 1e-6), int(np.ceil(high - 1e-6)))
            touched = zoom(picture, factor).alpha > 0
            assert touched[rows, ::-1][:, rows].all()


@pytest.mark.parametrize("size", [8, 16, 40, 64])
def test_resizing_keeps_the_objects_colour_and_its_share(size: int) -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 12:33] = 1
    image = np.where(alpha[..., None] > 0, [200, 100, 50], 0).astype(np.uint8)  # black background
    color, share = resize(image, alpha, size)
    assert color.shape == (size, size, 3)
    assert color.dtype == np.uint8
    assert share.mean() == pytest.approx(alpha.mean(), rel=0.04)  # pools overlap where the ratio is no integer
    assert (np.abs(color[share > 0.01].astype(int) - [200, 100, 50]) <= 1).all()
