from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree

from sdfsrn.data.shapenet import ShapeNetSource
from sdfsrn.data.views import (
    Picture,
    ViewsDataset,
    check_picture,
    collate_views,
    composite,
    outline_distance,
    pixel_size,
    resize,
    zoom,
)
from sdfsrn.functional import primitives
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, pixel_centers
from sdfsrn.functional.silhouette import distance_transform

CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
DOUBLE = {"dtype": torch.double}


def scene(x: torch.Tensor) -> torch.Tensor:
    """A ball, a box off the centre and a thin rod, exact outside."""

    def at(*place: float) -> torch.Tensor:
        return x - torch.tensor(place, dtype=x.dtype)

    half = torch.tensor([0.3, 0.12, 0.2], dtype=x.dtype)
    ball = primitives.sphere(at(0.1, 0.3, -0.2), torch.tensor(0.25, dtype=x.dtype))
    box = primitives.box(at(0.25, -0.2, 0.1), half)
    rod = primitives.capsule(at(-0.3, 0.0, 0.2), torch.tensor(0.35, dtype=x.dtype), torch.tensor(0.012, dtype=x.dtype))
    return primitives.union(ball, box, rod)


def covered(camera, uv: torch.Tensor, reach: float = 0.0) -> torch.Tensor:
    """Whether the lines of sight through (n, 2) image-plane points come within `reach` of the scene: sphere tracing."""
    rays = camera.rays(uv[None])
    length = rays.direction.norm(dim=-1)
    depth, hit = torch.full_like(length, 0.3), torch.zeros_like(length, dtype=torch.bool)
    for _ in range(60):
        sdf = scene(rays.at(depth))
        hit |= sdf < reach + 1e-4
        depth = depth + torch.where(hit, 0.0, sdf - reach).clamp(min=1e-4) / length
    return hit[0]


def random_picture(kind: type, size: tuple[int, int] = (24, 32)) -> Picture:
    """The scene, its coverage counted at 4 x 4 points a pixel and at least 1 / 255 wherever it may touch one."""
    height, width = size
    rotation = torch.linalg.qr(torch.randn(3, 3, **DOUBLE)).Q
    rotation = rotation * torch.det(rotation)
    translation = torch.tensor([0.1, -0.1, 2.0 + torch.rand(()).item()], **DOUBLE)
    intrinsics = torch.eye(3, **DOUBLE)
    intrinsics[0, 0], intrinsics[1, 1] = (2.2, 1.7) if kind is PerspectiveCamera else (0.9, 0.75)
    intrinsics[:2, 2] = torch.randn(2, **DOUBLE) / 10
    pose = torch.cat([rotation, translation[:, None]], -1)
    batch = kind(pose[None], intrinsics[None])
    fine = covered(batch, batch.image_plane(pixel_centers(4 * height, 4 * width, **DOUBLE)[None])[0])
    coverage = F.avg_pool2d(fine.view(1, 1, 4 * height, 4 * width).double(), 4)[0, 0]
    half = math.hypot(1 / (height * intrinsics[1, 1]), 1 / (width * intrinsics[0, 0]))
    reach = half * (translation[2].item() + 1 if kind is PerspectiveCamera else 1)  # to a pixel's corner, at the back
    centers = batch.image_plane(pixel_centers(height, width, **DOUBLE)[None])[0]
    touched = covered(batch, centers, reach).view(height, width)
    coverage = torch.where(touched, coverage.clamp(min=1 / 255), coverage)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Picture(image, coverage.float().numpy(), kind(pose.float(), intrinsics.float()))


class Memory:
    """A source of pictures held in a list."""

    def __init__(self, pictures: list[Picture], points: int = 0) -> None:
        self.pictures, self.count = pictures, points
        self.names = [f"picture {i}" for i in range(len(pictures))]

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> Picture:
        return self.pictures[index]

    def points(self, index: int) -> np.ndarray:
        return np.ones((self.count * index, 3), np.float32)


@CAMERAS
def test_no_surface_is_nearer_than_the_bound_of_a_silhouette_made_of_pixels(kind: type) -> None:
    """From mask to bound with the package's own code alone, in 12 views, some 100,000 points."""
    checked = 0
    for _ in range(12):
        picture = random_picture(kind)
        views = collate_views([ViewsDataset(Memory([picture]))[0]])
        depth = 0.3 + 4 * torch.rand(1, views.uv.shape[1], 20)
        true = scene(views.camera.rays(views.uv).at_many(depth))
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        free = torch.from_numpy(picture.coverage == 0).view(1, -1)
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
    free = picture.coverage == 0
    assert (distance <= exact + 1e-9)[free].all()
    assert (exact - distance)[free].max() < 2.5 * diagonal


@pytest.mark.parametrize("size", [(24, 32), (17, 5), (1, 9)])
def test_outlines_are_as_far_as_the_distance_transform_says(size: tuple[int, int]) -> None:
    picture = random_picture(PerspectiveCamera, size)
    for share in (0.0, 0.02, 0.5, 1.0):
        coverage = np.where(np.random.default_rng(1).random(size) < share, picture.coverage + 0.3, 0).clip(0, 1)
        some = picture._replace(coverage=coverage.astype(np.float32))
        inside, distance = outline_distance(some)
        pixel = pixel_size(picture)
        expected = np.where(inside, distance_transform(~inside, pixel), distance_transform(some.coverage > 0, pixel))
        np.testing.assert_allclose(distance, expected, rtol=1e-6)
        pixels = np.random.default_rng(2).permutation(inside.size)[:20]
        few = outline_distance(some, pixels)
        assert np.array_equal(few[0], inside.flat[pixels])
        assert np.array_equal(few[1], distance.flat[pixels])


def test_inside_is_half_covered_and_distance_reaches_what_is_touched() -> None:
    coverage = np.array([[0, 0, 0.2, 0.5, 1, 1, 0.49, 0, 0]], np.float32)
    intrinsics = torch.diag(torch.tensor([2 / 9, 2.0, 1.0]))  # pixels of 1 x 1
    picture = Picture(np.zeros((1, 9, 3), np.uint8), coverage, PerspectiveCamera(torch.eye(3, 4), intrinsics))
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
    assert torch.equal(whole.inside.view(24, 32), torch.from_numpy(picture.coverage >= 0.5))
    dataset = ViewsDataset(Memory([picture]), num_rays=100)
    some, other = dataset[0], dataset[0]
    assert not torch.equal(some.uv, other.uv)
    where = torch.cdist(some.uv, whole.uv).argmin(-1)
    assert ((where + 1) * 100 > torch.arange(100) * 768).all()  # one in each hundredth of the picture
    assert (where * 100 < torch.arange(1, 101) * 768).all()
    for name in ("uv", "color", "inside", "distance", "weight", "area"):
        assert torch.equal(getattr(some, name), getattr(whole, name)[where])
    assert torch.equal(some.image, whole.image)


def test_every_pixel_has_the_same_chance() -> None:
    picture = random_picture(PerspectiveCamera, (6, 8))
    picture = picture._replace(coverage=np.eye(6, 8, dtype=np.float32))
    dataset = ViewsDataset(Memory([picture]), num_rays=12)
    seen = torch.stack([dataset[0].uv for _ in range(400)]).flatten(0, 1)
    counts = seen.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 48
    assert counts.min() > 60
    assert counts.max() < 145


@pytest.mark.parametrize("camera", [PerspectiveCamera, OrthographicCamera])
def test_rays_near_the_outline_are_more_and_stand_for_less(camera: type) -> None:
    picture = disc(camera, 24, 0.4, (0.1, 0))
    whole = ViewsDataset(Memory([picture]))[0]
    dataset = ViewsDataset(Memory([picture]), num_rays=60, outline_rays=0.75)
    samples = collate_views([dataset[0] for _ in range(300)])
    part = 0.25 + 0.75 * samples.weight / whole.weight.mean()
    torch.testing.assert_close(samples.area, 1 / part)
    near = 2 * min(pixel_size(picture))
    assert (samples.distance < near).float().mean() > 1.5 * (whole.distance < near).float().mean()
    for name in ("color", "distance", "inside", "weight"):
        value, expected = getattr(samples, name).double(), getattr(whole, name).double().mean(0)
        area = samples.area[..., None] if name == "color" else samples.area
        found = (value * area).mean(1)
        error = found.std(0) / 300**0.5
        assert ((found.mean(0) - expected).abs() <= 4 * error + 1e-6).all(), name


def test_all_rays_are_uniform() -> None:
    whole = ViewsDataset(Memory([random_picture(PerspectiveCamera)]), outline_rays=0.5)[0]
    assert (whole.area == 1).all()
    assert len(whole.uv.unique(dim=0)) == 768


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_rays_is_less_than_all(share: float) -> None:
    with pytest.raises(ValueError, match="outline_rays of at least 0 and less than 1"):
        ViewsDataset(Memory([random_picture(PerspectiveCamera)]), num_rays=8, outline_rays=share)


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
    color, coverage = torch.from_numpy(picture.image).permute(2, 0, 1) / 127.5 - 1, torch.from_numpy(picture.coverage)
    for background in (-1.0, 0.25, 1.0):
        image = composite(picture, background)
        torch.testing.assert_close(image, coverage * color + (1 - coverage) * background)
    dataset = ViewsDataset(Memory([picture]), jitter=True)
    one, two = dataset[0].image, dataset[0].image
    assert (one[:, coverage == 0] == 1).all()
    assert not torch.equal(one, two)
    assert one.min() >= -1
    assert one.max() <= 1


ZOOMS = pytest.mark.parametrize("factor", [0.8, 0.93, 1.13, 1.2])


@ZOOMS
@CAMERAS
def test_the_bound_holds_in_a_zoomed_picture(kind: type, factor: float) -> None:
    """The true scene against the zoomed camera, as large as that camera's world has it; nothing of it is cut off."""
    checked = 0
    for _ in range(4):
        picture = random_picture(kind)
        if picture.coverage[[0, 1, 2, -3, -2, -1]].any() or picture.coverage[:, [0, 1, 2, 3, -4, -3, -2, -1]].any():
            continue  # would grow over the border
        zoomed = zoom(picture, factor)
        views = collate_views([ViewsDataset(Memory([zoomed]))[0]])
        size = factor if kind is OrthographicCamera else 1.0
        depth = 0.3 + 4 * torch.rand(1, views.uv.shape[1], 20)
        true = size * scene(views.camera.rays(views.uv).at_many(depth) / size)
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        free = torch.from_numpy(zoomed.coverage == 0).view(1, -1)
        assert (bound <= true + 1e-5)[free].all()
        assert (bound > 0)[free].all()
        checked += 20 * int(free.sum())
    assert checked > 5_000


def disc(kind: type, size: int, radius: float, at: tuple[float, float]) -> Picture:
    """A disc on the screen, its coverage counted at 8 x 8 points a pixel; where it is not, colours are others."""
    points = pixel_centers(8 * size, 8 * size, **DOUBLE) - torch.tensor(at, **DOUBLE)
    fine = (points.norm(dim=-1) < radius).view(1, 1, 8 * size, 8 * size).double()
    coverage = F.avg_pool2d(fine, 8)[0, 0].float().numpy()
    image = np.where(coverage[..., None] > 0, [200, 100, 50], 7).astype(np.uint8)
    return Picture(image, coverage, kind(torch.eye(3, 4), torch.eye(3)))


@ZOOMS
@CAMERAS
def test_a_zoomed_disc_is_the_larger_disc_farther_out(kind: type, factor: float) -> None:
    picture = zoom(disc(kind, 64, 0.4, (0.25, -0.1)), factor)
    expected = disc(kind, 64, 0.4 * factor, (0.25 * factor, -0.1 * factor))
    inside = expected.coverage >= 0.5
    assert np.abs(picture.coverage - expected.coverage).mean() < 0.006
    assert ((picture.coverage >= 0.5) != inside).mean() < 0.002
    assert (picture.coverage[expected.coverage > 0] > 0).all()
    assert picture.coverage.sum() == pytest.approx(expected.coverage.sum(), rel=2e-3)
    assert (np.abs(picture.image[picture.coverage > 0].astype(int) - [200, 100, 50]) <= 1).all()
    assert (picture.image[picture.coverage == 0] == 255).all()
    assert picture.image.shape == (64, 64, 3)
    assert picture.image.dtype == np.uint8


def test_zoom_by_one_is_nothing_and_a_revealed_border_is_free() -> None:
    picture = random_picture(PerspectiveCamera)
    same = zoom(picture, 1.0)
    np.testing.assert_allclose(same.coverage, picture.coverage, atol=1e-6)
    assert np.array_equal(same.image[picture.coverage > 0], picture.image[picture.coverage > 0])
    assert all(torch.equal(a, b) for a, b in zip(same.camera, picture.camera, strict=True))
    small = zoom(picture._replace(coverage=np.ones((24, 32), np.float32)), 0.5)
    np.testing.assert_allclose(small.coverage[8:-8, 10:-10], 1, atol=1e-6)
    assert small.coverage.sum() == pytest.approx(24 * 32 / 4, rel=1e-5)
    assert (small.coverage[:4] == 0).all()
    assert (small.image[:4] == 255).all()


def test_nothing_thin_is_lost_by_shrinking() -> None:
    """Every old pixel that is covered alone touches all the new pixels it overlaps."""
    for place in range(24):
        coverage = np.zeros((24, 24), np.float32)
        coverage[place, 23 - place] = 0.01
        picture = disc(PerspectiveCamera, 24, 0.4, (0, 0))._replace(coverage=coverage)
        for factor in (0.8, 0.87, 1.1):
            low, high = ((np.array([place, place + 1]) - 12) * factor + 12).clip(0, 24)
            rows = slice(int(low + 1e-6), int(np.ceil(high - 1e-6)))
            touched = zoom(picture, factor).coverage > 0
            assert touched[rows, ::-1][:, rows].all()


def test_scale_jitter_is_uniform_and_stays_with_what_can_be_used() -> None:
    picture = disc(PerspectiveCamera, 16, 0.4, (0, 0))
    dataset = ViewsDataset(Memory([picture]), num_rays=1, scale_jitter=0.2)
    factors = torch.stack([dataset[0].camera.intrinsics[0, 0] for _ in range(400)])
    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert factors.mean().item() == pytest.approx(1, abs=0.03)
    full = picture._replace(coverage=np.pad(np.ones((14, 14), np.float32), 1))
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


def spoil(**changes) -> Picture:
    picture = random_picture(PerspectiveCamera, (6, 8))
    camera = PerspectiveCamera(*(t.clone() for t in picture.camera))
    for name, change in changes.items():
        if name in camera._fields:
            change(getattr(camera, name))
    return picture._replace(camera=camera, **{k: v for k, v in changes.items() if k in ("image", "coverage")})


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (lambda: spoil(coverage=np.zeros((6, 8), np.float32)), "is empty"),
        (lambda: spoil(coverage=np.full((6, 8), 0.4, np.float32)), "is empty"),
        (lambda: spoil(coverage=np.ones((6, 8), np.float32)), "covers the whole image"),
        (lambda: spoil(coverage=np.eye(8, dtype=np.float32)), "of one size"),
        (lambda: spoil(image=np.zeros((6, 8, 4), np.uint8)), "RGB"),
        (lambda: spoil(world_to_camera=lambda t: t[0].fill_(torch.nan)), r"finite.*world_to_camera"),
        (lambda: spoil(intrinsics=lambda t: t[0].fill_(torch.inf)), r"finite.*intrinsics"),
        (lambda: spoil(world_to_camera=lambda t: t[0].neg_()), "rotation"),
        (lambda: spoil(world_to_camera=lambda t: t[:, :3].mul_(2)), "rotation"),
        (lambda: spoil(intrinsics=lambda t: t[1, 1].neg_()), "focal"),
        (lambda: spoil(intrinsics=lambda t: t[0, 1].fill_(0.5)), "skew|intrinsics"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(picture, reason: str) -> None:
    good = random_picture(PerspectiveCamera, (6, 8))
    check_picture(good._replace(coverage=np.eye(6, 8, dtype=np.float32)), "good.png")
    spoilt = picture()
    if np.unique(spoilt.coverage).size != 1 and spoilt.coverage.shape == (6, 8):
        spoilt = spoilt._replace(coverage=np.eye(6, 8, dtype=np.float32))
    with pytest.raises(ValueError, match=reason) as caught:
        check_picture(spoilt, "bad.png")
    assert "bad.png" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [8, 16, 40, 64])
def test_resizing_keeps_the_objects_colour_and_its_share(size: int) -> None:
    coverage = np.zeros((40, 40), np.float32)
    coverage[10:30, 12:33] = 1
    image = np.where(coverage[..., None] > 0, [200, 100, 50], 0).astype(np.uint8)  # black background
    color, share = resize(image, coverage, size)
    assert color.shape == (size, size, 3)
    assert color.dtype == np.uint8
    assert share.mean() == pytest.approx(coverage.mean(), rel=0.04)  # pools overlap where the ratio is no integer
    assert (np.abs(color[share > 0.01].astype(int) - [200, 100, 50]) <= 1).all()


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
        true = tree.query(views.camera.rays(views.uv).at_many(depth).numpy())[0]
        bound = views.camera.lower_bound(depth, views.uv, views.distance).numpy()
        assert (bound <= true + 1e-5)[~views.inside.numpy()].mean() > 0.9999
