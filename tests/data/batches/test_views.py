from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from scenes import CAMERAS, DOUBLE, Memory, covered, disc, random_picture, scene
from sdfsrn.data.batches.views import ViewsDataset, collate_views, composite, outline_distance, pixel_size
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.functional.camera import PerspectiveCamera, pixel_centers
from sdfsrn.functional.silhouette import distance_transform


@CAMERAS
def test_no_surface_is_nearer_than_the_bound_of_a_silhouette_made_of_pixels(kind: type) -> None:
    """From mask to bound with the package's own code alone, in 12 views, some 100,000 points."""
    checked = 0
    for _ in range(12):
        picture = random_picture(kind)
        views = collate_views([ViewsDataset(Memory([picture]))[0]])
        depth = 0.3 + 4 * torch.rand(1, views.uv.shape[1], 20)
        true = scene(views.camera.rays(views.uv).at(depth))
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        free = torch.from_numpy(picture.alpha == 0).view(1, -1)
        assert (bound <= true + 1e-5)[free].all()
        assert (bound <= true.abs() + 1e-5)[~views.inside].all()
        assert (views.distance[free] > 0).all()
        assert (bound > 0)[free].all()
        checked += 20 * int(free.sum())
    assert checked > 80_000


@CAMERAS
def test_the_bound_is_no_weaker_than_a_pixel_makes_it(kind: type) -> None:
    """Where D is large the bound is nearly met: resolution costs a pixel's diagonal and no more."""
    picture = random_picture(kind, (48, 64))
    distance = outline_distance(picture)[1]
    batch = kind(picture.camera.world_to_camera[None].double(), picture.camera.intrinsics[None].double())
    fine = batch.image_plane(pixel_centers(4 * 48, 4 * 64, **DOUBLE)[None])[0]
    target = fine[covered(batch, fine)]
    centers = batch.image_plane(pixel_centers(48, 64, **DOUBLE)[None])[0]
    exact = torch.cdist(centers, target).amin(-1).view(48, 64).numpy()
    diagonal = math.hypot(*pixel_size(picture))
    free = picture.alpha == 0
    assert (distance <= exact + 1e-9)[free].all()
    assert (exact - distance)[free].max() < 2.5 * diagonal


@pytest.mark.parametrize("size", [(24, 32), (17, 5), (1, 9)])
def test_outlines_are_as_far_as_the_distance_transform_says(size: tuple[int, int]) -> None:
    picture = random_picture(PerspectiveCamera, size)
    for share in (0.0, 0.02, 0.5, 1.0):
        alpha = np.where(np.random.default_rng(1).random(size) < share, picture.alpha + 0.3, 0).clip(0, 1)
        some = picture._replace(alpha=alpha.astype(np.float32))
        inside, distance = outline_distance(some)
        pixel = pixel_size(picture)
        expected = np.where(inside, distance_transform(~inside, pixel), distance_transform(some.alpha > 0, pixel))
        np.testing.assert_allclose(distance, expected, rtol=1e-6)
        pixels = np.random.default_rng(2).permutation(inside.size)[:20]
        few = outline_distance(some, pixels)
        assert np.array_equal(few[0], inside.flat[pixels])
        assert np.array_equal(few[1], distance.flat[pixels])


def test_inside_is_half_covered_and_distance_reaches_what_is_touched() -> None:
    alpha = np.array([[0, 0, 0.2, 0.5, 1, 1, 0.49, 0, 0]], np.float32)
    intrinsics = torch.diag(torch.tensor([2 / 9, 2.0, 1.0]))  # pixels of 1 x 1
    picture = ImageSample(np.zeros((1, 9, 3), np.uint8), alpha, PerspectiveCamera(torch.eye(3, 4), intrinsics))
    inside, distance = outline_distance(picture)
    assert inside.tolist() == [[False, False, False, True, True, True, False, False, False]]
    assert distance[0].tolist() == pytest.approx([1.5, 0.5, 0, 0.5, 1.5, 0.5, 0, 0.5, 1.5], rel=1e-6)


def test_pixel_size_tiles_the_image_plane() -> None:
    picture = random_picture(PerspectiveCamera)
    uv = picture.camera.image_plane(pixel_centers(24, 32)).view(24, 32, 2)
    height, width = pixel_size(picture)
    torch.testing.assert_close(uv[1:, :, 1] - uv[:-1, :, 1], torch.full((23, 32), height), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(uv[:, 1:, 0] - uv[:, :-1, 0], torch.full((24, 31), width), rtol=1e-4, atol=1e-6)


def test_all_rays_come_row_by_row_and_some_are_a_random_part() -> None:
    picture = random_picture(PerspectiveCamera)
    whole = ViewsDataset(Memory([picture]))[0]
    torch.testing.assert_close(whole.color.mT.reshape(3, 24, 32), whole.image)
    assert torch.equal(whole.inside.view(24, 32), torch.from_numpy(picture.alpha >= 0.5))
    dataset = ViewsDataset(Memory([picture]), num_rays=100)
    some, other = dataset[0], dataset[0]
    assert not torch.equal(some.uv, other.uv)
    where = torch.cdist(some.uv, whole.uv).argmin(-1)
    assert ((where + 1) * 100 > torch.arange(100) * 768).all()  # one in each hundredth of the picture
    assert (where * 100 < torch.arange(1, 101) * 768).all()
    for name in ("uv", "color", "inside", "distance", "weight", "inverse_density"):
        assert torch.equal(getattr(some, name), getattr(whole, name)[where])
    assert torch.equal(some.image, whole.image)


def test_every_pixel_has_the_same_chance() -> None:
    picture = random_picture(PerspectiveCamera, (6, 8))
    picture = picture._replace(alpha=np.eye(6, 8, dtype=np.float32))
    dataset = ViewsDataset(Memory([picture]), num_rays=12)
    seen = torch.stack([dataset[0].uv for _ in range(400)]).flatten(0, 1)
    counts = seen.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 48
    assert counts.min() > 60
    assert counts.max() < 145


@CAMERAS
def test_rays_near_the_outline_are_more_and_stand_for_less(kind: type) -> None:
    picture = disc(kind, 24, 0.4, (0.1, 0))
    whole = ViewsDataset(Memory([picture]))[0]
    dataset = ViewsDataset(Memory([picture]), num_rays=60, boundary_fraction=0.75)
    samples = collate_views([dataset[0] for _ in range(300)])
    part = 0.25 + 0.75 * samples.weight / whole.weight.mean()
    torch.testing.assert_close(samples.inverse_density, 1 / part)
    near = 2 * min(pixel_size(picture))
    assert (samples.distance < near).float().mean() > 1.5 * (whole.distance < near).float().mean()
    for name in ("color", "distance", "inside", "weight"):
        value, expected = getattr(samples, name).double(), getattr(whole, name).double().mean(0)
        area = samples.inverse_density[..., None] if name == "color" else samples.inverse_density
        found = (value * area).mean(1)
        error = found.std(0) / 300**0.5
        assert ((found.mean(0) - expected).abs() <= 4 * error + 1e-6).all(), name


def test_all_rays_are_uniform() -> None:
    whole = ViewsDataset(Memory([random_picture(PerspectiveCamera)]), boundary_fraction=0.5)[0]
    assert (whole.inverse_density == 1).all()
    assert len(whole.uv.unique(dim=0)) == 768


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_rays_is_less_than_all(share: float) -> None:
    with pytest.raises(ValueError, match="boundary_fraction of at least 0 and less than 1"):
        ViewsDataset(Memory([random_picture(PerspectiveCamera)]), num_rays=8, boundary_fraction=share)


def test_more_rays_than_pixels() -> None:
    with pytest.raises(ValueError, match="at most 768"):
        ViewsDataset(Memory([random_picture(PerspectiveCamera)]), num_rays=769)[0]


def test_weight_is_the_inverse_distance_and_never_more_than_two_a_pixel() -> None:
    sample = ViewsDataset(Memory([random_picture(PerspectiveCamera)]))[0]
    pixel = min(pixel_size(random_picture(PerspectiveCamera)))
    torch.testing.assert_close(sample.weight, 1 / sample.distance.clamp(min=pixel / 2))
    assert sample.weight.isfinite().all()


def test_composite_blends_over_the_background_and_jitters_the_object_alone() -> None:
    picture = random_picture(PerspectiveCamera)
    color, alpha = torch.from_numpy(picture.image).permute(2, 0, 1) / 127.5 - 1, torch.from_numpy(picture.alpha)
    for background in (-1.0, 0.25, 1.0):
        image = composite(picture, background)
        torch.testing.assert_close(image, alpha * color + (1 - alpha) * background)
    dataset = ViewsDataset(Memory([picture]), jitter=True)
    one, two = dataset[0].image, dataset[0].image
    assert (one[:, alpha == 0] == 1).all()
    assert not torch.equal(one, two)
    assert one.min() >= -1
    assert one.max() <= 1


def test_scale_jitter_is_uniform_and_stays_with_what_can_be_used() -> None:
    picture = disc(PerspectiveCamera, 16, 0.4, (0, 0))
    dataset = ViewsDataset(Memory([picture]), num_rays=1, scale_jitter=0.2)
    factors = torch.stack([dataset[0].camera.intrinsics[0, 0] for _ in range(400)])
    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert factors.mean().item() == pytest.approx(1, abs=0.03)
    full = picture._replace(alpha=np.pad(np.ones((14, 14), np.float32), 1))
    sample = ViewsDataset(Memory([full]), scale_jitter=0.9)
    for _ in range(20):
        assert sample[0].distance.isfinite().all()
    with pytest.raises(ValueError, match="scale_jitter"):
        ViewsDataset(Memory([picture]), scale_jitter=1.0)


def test_collating_pads_clouds_with_nan_and_stacks_the_rest() -> None:
    pictures = [random_picture(PerspectiveCamera) for _ in range(3)]
    dataset = ViewsDataset(Memory(pictures, points=5))
    batch = collate_views([dataset[i] for i in range(3)])
    assert batch.points.shape == (3, 10, 3)
    assert batch.points.isfinite().all(-1).sum(1).tolist() == [0, 5, 10]
    assert batch.index.tolist() == [0, 1, 2]
    assert type(batch.camera) is PerspectiveCamera
    assert batch.camera.world_to_camera.shape == (3, 3, 4)
    assert batch.uv.shape == (3, 768, 2)
    assert {t.dtype for t in (batch.image, batch.uv, batch.color, batch.distance, batch.weight)} == {torch.float32}
    torch.testing.assert_close(batch.uv[1], dataset[1].uv)
    assert collate_views([dataset[0]]).points.shape == (1, 0, 3)


def test_real_airplanes_project_into_their_masks(airplanes) -> None:
    """99.5 % of the true surface falls on touched pixels, and D, in image-plane units, is 0 there."""
    for split in ("val", "test"):
        source = ShapeNetSource(str(airplanes), "airplane", split)
        for index in range(len(source)):
            views = collate_views([ViewsDataset(source)[index]])
            assert views.image.shape == (1, 3, 64, 64)
            assert views.points.shape == (1, 30_000, 3)
            screen = views.camera.screen(views.camera.project(views.points)[0])[0]
            column, row = ((screen + 1) * 32).floor().long().clamp(0, 63).unbind(-1)
            touched = views.inside | (views.distance == 0)
            assert touched[0, row * 64 + column].float().mean() > 0.995
            assert (views.camera.project(views.points)[1] > 1.9).all()


def test_real_distances_are_in_units_of_the_image_plane(airplanes) -> None:
    views = collate_views([ViewsDataset(ShapeNetSource(str(airplanes), "airplane", "val"))[0]])
    pixel = 2 / 64 / 3.7320508
    touched = views.uv[0][(views.inside | (views.distance == 0))[0]].double()
    outside = ~views.inside[0] & (views.distance[0] > 0)
    gap = (views.uv[0][outside].double()[:, None] - touched).abs().sub(pixel / 2).clamp(min=0).norm(dim=-1).amin(-1)
    torch.testing.assert_close(views.distance[0][outside].double(), gap, rtol=1e-4, atol=1e-6)
    inside = views.inside[0]
    other = views.uv[0][~inside].double()
    gap = (views.uv[0][inside].double()[:, None] - other).abs().sub(pixel / 2).clamp(min=0).norm(dim=-1).amin(-1)
    torch.testing.assert_close(views.distance[0][inside].double(), gap, rtol=1e-4, atol=1e-6)


def test_real_rays_of_silhouette_pixels_meet_the_airplane_and_others_keep_their_distance(airplanes) -> None:
    """Against the true points: rays of silhouette pixels pass near some, the bound holds on all the others."""
    source = ShapeNetSource(str(airplanes), "airplane", "test")
    for index in range(len(source)):
        views = collate_views([ViewsDataset(source)[index]])
        tree = KDTree(views.points[0].numpy())
        uv, _ = views.camera.project(views.points)
        gap = KDTree(uv[0].numpy()).query(views.uv[0].numpy())[0]
        assert (gap[views.inside[0].numpy()] < 1.5 * 2 / 64 / 3.7320508).mean() > 0.99
        depth = 2 + 1.5 * torch.rand(1, 4096, 5)
        true = tree.query(views.camera.rays(views.uv).at(depth).numpy())[0]
        bound = views.camera.lower_bound(depth, views.uv, views.distance).numpy()
        assert (bound <= true + 1e-5)[~views.inside.numpy()].mean() > 0.9999
