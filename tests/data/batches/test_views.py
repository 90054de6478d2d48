from __future__ import annotations

import math
import pathlib

import numpy as np
import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from scipy.spatial import KDTree
from torch.utils._pytree import tree_leaves

from scenes import CAMERAS, DOUBLE, Memory, covered, disc, random_picture, scene
from sdfsrn.data.batches.augmentation import zoom_nearest
from sdfsrn.data.batches.datasets import DrawDataset, PictureDataset
from sdfsrn.data.batches.hulls import HullDepth
from sdfsrn.data.batches.pictures import pack
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import BatchSettings, make_views, outline_distance, pixel_size
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, pixel_centers
from sdfsrn.structures import Views


class Blobs(Memory):
    """Random outlines and colours, partly covered pixels, a focal length per axis."""

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
        return ImageSample(image, alpha.astype(np.float32), kind(pose, intrinsics))


def whole(*pictures: ImageSample) -> Views:
    """All pixels of some pictures."""
    return PictureDataset(Memory(list(pictures))).views(range(len(pictures)))


def outline(picture: ImageSample) -> tuple[torch.Tensor, torch.Tensor]:
    size = pixel_size(picture.camera.map(lambda matrix: matrix[None]), *picture.alpha.shape)
    inside, distance = outline_distance(torch.from_numpy(picture.alpha)[None], size)
    return inside[0], distance[0]


def size_of(picture: ImageSample) -> tuple[float, float]:
    height, width = pixel_size(picture.camera, *picture.alpha.shape).tolist()
    return height, width


def rounded(picture: ImageSample) -> ImageSample:
    """As its bytes have it."""
    return picture._replace(alpha=pack(picture.image, picture.alpha)[..., 3].astype(np.float32) / 255)


@CAMERAS
def test_no_surface_is_nearer_than_the_bound_of_a_silhouette_made_of_pixels(kind: type) -> None:
    """From mask to bound with the package's own code alone, in 12 views, some 100,000 points."""
    checked = 0
    for _ in range(12):
        picture = random_picture(kind)
        views = whole(picture)
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
    distance = outline(picture)[1].numpy()
    batch = kind(picture.camera.world_to_camera[None].double(), picture.camera.intrinsics[None].double())
    fine = batch.image_plane(pixel_centers(4 * 48, 4 * 64, **DOUBLE)[None])[0]
    target = fine[covered(batch, fine)]
    centers = batch.image_plane(pixel_centers(48, 64, **DOUBLE)[None])[0]
    exact = torch.cdist(centers, target).amin(-1).view(48, 64).numpy()
    diagonal = math.hypot(*size_of(picture))
    free = picture.alpha == 0
    assert (distance <= exact + 1e-6)[free].all()
    assert (exact - distance)[free].max() < 2.5 * diagonal


@pytest.mark.parametrize("size", [(24, 32), (17, 5), (1, 9)])
def test_outlines_are_as_far_as_brute_force_says(size: tuple[int, int]) -> None:
    picture = random_picture(PerspectiveCamera, size)
    rows, columns = np.indices(size).reshape(2, -1)
    height, width = size_of(picture)
    gap_y = (np.abs(rows - rows[:, None]) - 0.5).clip(0) * height
    gap_x = (np.abs(columns - columns[:, None]) - 0.5).clip(0) * width
    gap = np.hypot(gap_y, gap_x)
    for share in (0.0, 0.02, 0.5, 1.0):
        alpha = np.where(np.random.default_rng(1).random(size) < share, picture.alpha + 0.3, 0).clip(0, 1)
        inside, distance = outline(picture._replace(alpha=alpha.astype(np.float32)))
        to_touched = np.where((alpha > 0).flatten(), gap, np.inf).min(1)
        to_free = np.where((alpha < 0.5).flatten(), gap, np.inf).min(1)
        expected = np.where(inside.flatten(), to_free, to_touched).reshape(size)
        np.testing.assert_allclose(distance, expected, rtol=2e-6)


def test_inside_is_half_covered_and_distance_reaches_what_is_touched() -> None:
    alpha = np.array([[0, 0, 0.2, 0.5, 1, 1, 0.49, 0, 0]], np.float32)
    intrinsics = torch.diag(torch.tensor([2 / 9, 2.0, 1.0]))  # pixels of 1 x 1
    picture = ImageSample(np.zeros((1, 9, 3), np.uint8), alpha, PerspectiveCamera(torch.eye(3, 4), intrinsics))
    inside, distance = outline(picture)
    assert inside.tolist() == [[False, False, False, True, True, True, False, False, False]]
    assert distance[0].tolist() == pytest.approx([1.5, 0.5, 0, 0.5, 1.5, 0.5, 0, 0.5, 1.5], rel=1e-6)


def test_pixel_size_tiles_the_image_plane() -> None:
    picture = random_picture(PerspectiveCamera)
    uv = picture.camera.image_plane(pixel_centers(24, 32)).view(24, 32, 2)
    height, width = size_of(picture)
    torch.testing.assert_close(uv[1:, :, 1] - uv[:-1, :, 1], torch.full((23, 32), height), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(uv[:, 1:, 0] - uv[:, :-1, 0], torch.full((24, 31), width), rtol=1e-4, atol=1e-6)


def test_all_rays_come_row_by_row_and_some_are_a_random_part() -> None:
    picture = random_picture(PerspectiveCamera)
    all_rays = whole(picture)
    torch.testing.assert_close(all_rays.color[0].mT.reshape(3, 24, 32), all_rays.image[0])
    assert torch.equal(all_rays.inside.view(24, 32), torch.from_numpy(picture.alpha >= 0.5))
    dataset = PictureDataset(Memory([picture]), BatchSettings(num_rays=100))
    some, other = dataset.views([0]), dataset.views([0])
    assert not torch.equal(some.uv, other.uv)
    where = torch.cdist(some.uv, all_rays.uv)[0].argmin(-1)
    assert ((where + 1) * 100 > torch.arange(100) * 768).all()  # one in each hundredth of the picture
    assert (where * 100 < torch.arange(1, 101) * 768).all()
    for name in ("uv", "color", "inside", "distance", "weight", "inverse_density"):
        assert torch.equal(getattr(some, name)[0], getattr(all_rays, name)[0, where])
    assert torch.equal(some.image, all_rays.image)


def test_every_pixel_has_the_same_chance() -> None:
    picture = random_picture(PerspectiveCamera, (6, 8))
    picture = picture._replace(alpha=np.eye(6, 8, dtype=np.float32))
    seen = PictureDataset(Memory([picture]), BatchSettings(num_rays=12)).views([0] * 400).uv.flatten(0, 1)
    counts = seen.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 48
    assert counts.min() > 60
    assert counts.max() < 145


@CAMERAS
def test_rays_near_the_outline_are_more_and_stand_for_less(kind: type) -> None:
    picture = disc(kind, 24, 0.4, (0.1, 0))
    all_rays = whole(picture)
    samples = PictureDataset(Memory([picture]), BatchSettings(num_rays=60, boundary_fraction=0.75)).views([0] * 300)
    part = 0.25 + 0.75 * samples.weight / all_rays.weight.mean()
    torch.testing.assert_close(samples.inverse_density, 1 / part)
    near = 2 * min(size_of(picture))
    assert (samples.distance < near).float().mean() > 1.5 * (all_rays.distance < near).float().mean()
    for name in ("color", "distance", "inside", "weight"):
        value, expected = getattr(samples, name).double(), getattr(all_rays, name)[0].double().mean(0)
        area = samples.inverse_density[..., None] if name == "color" else samples.inverse_density
        found = (value * area).mean(1)
        error = found.std(0) / 300**0.5
        assert ((found.mean(0) - expected).abs() <= 4 * error + 1e-6).all(), name


def test_all_rays_are_uniform() -> None:
    source = Memory([random_picture(PerspectiveCamera)])
    views = PictureDataset(source, BatchSettings(boundary_fraction=0.5)).views([0])
    assert (views.inverse_density == 1).all()
    assert len(views.uv[0].unique(dim=0)) == 768


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_rays_is_less_than_all(share: float) -> None:
    with pytest.raises(ValueError, match="boundary_fraction of at least 0 and less than 1"):
        BatchSettings(num_rays=8, boundary_fraction=share)


def test_more_rays_than_pixels() -> None:
    with pytest.raises(ValueError, match="at most 768"):
        PictureDataset(Memory([random_picture(PerspectiveCamera)]), BatchSettings(num_rays=769)).views([0])


def test_weight_is_the_inverse_distance_and_never_more_than_two_a_pixel() -> None:
    sample = whole(random_picture(PerspectiveCamera))
    pixel = min(size_of(random_picture(PerspectiveCamera)))
    torch.testing.assert_close(sample.weight, 1 / sample.distance.clamp(min=pixel / 2))
    assert sample.weight.isfinite().all()


def test_the_object_is_blended_over_the_background_and_jittered_alone() -> None:
    picture = rounded(random_picture(PerspectiveCamera))
    color, alpha = torch.from_numpy(picture.image).permute(2, 0, 1) / 127.5 - 1, torch.from_numpy(picture.alpha)
    for background in (-1.0, 0.25, 1.0):
        views = PictureDataset(Memory([picture]), BatchSettings(background=background)).views([0])
        torch.testing.assert_close(views.image[0], alpha * color + (1 - alpha) * background)
    one, two = PictureDataset(Memory([picture]), BatchSettings(num_rays=1, jitter=True)).views([0, 0]).image
    assert (one[:, alpha == 0] == 1).all()
    assert not torch.equal(one, two)
    assert one.min() >= -1
    assert one.max() <= 1


def test_scale_jitter_is_uniform_and_stays_with_what_can_be_used() -> None:
    picture = disc(PerspectiveCamera, 16, 0.4, (0, 0))
    views = PictureDataset(Memory([picture]), BatchSettings(num_rays=1, scale_jitter=0.2)).views([0] * 400)
    factors = views.camera.intrinsics[:, 0, 0]
    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert factors.mean().item() == pytest.approx(1, abs=0.03)
    with pytest.raises(ValueError, match="scale_jitter"):
        BatchSettings(scale_jitter=1.0)


@CAMERAS
def test_half_of_the_pictures_come_mirrored_and_the_bound_holds_for_the_mirrored_scene(kind: type) -> None:
    settings = BatchSettings(num_rays=100, mirror=True)
    source = Memory([random_picture(kind) for _ in range(8)])
    keys = [SampleKey(i % 8, i) for i in range(64)]
    views, plain = (PictureDataset(source, s).views(keys) for s in (settings, BatchSettings(num_rays=100)))
    mirrored = (views.image != plain.image).flatten(1).any(1)
    assert 16 < mirrored.sum() < 48
    assert torch.equal(views.image[mirrored], plain.image[mirrored].flip(-1))
    for ours, theirs in zip(views[:7], plain[:7], strict=True):
        for a, b in zip(tree_leaves(ours), tree_leaves(theirs), strict=True):
            assert torch.equal(a[~mirrored], b[~mirrored])
    depth = 0.3 + 4 * torch.rand(64, 100, 20)
    turn = torch.where(mirrored[:, None, None], torch.tensor([-1.0, 1.0, 1.0]), 1.0)
    true = scene((views.camera.rays(views.uv).at(depth).flatten(1, 2) * turn).view(64, 100, 20, 3))
    bound = views.camera.lower_bound(depth, views.uv, views.distance)
    assert (bound <= true.abs() + 1e-5)[~views.inside].all()
    assert (bound > 0)[~views.inside & (views.distance > 0)].all()


def ball_picture(kind: type) -> tuple[ImageSample, np.ndarray]:
    """A ball of radius 0.4 off the world's origin, and the depth where each ray first meets it; inf beside it."""
    fx, fy = (3.0, 2.8) if kind is PerspectiveCamera else (1.3, 1.2)
    intrinsics = torch.tensor([[fx, 0, 0.04], [0, fy, -0.05], [0, 0, 1]])
    camera = kind(torch.tensor([[1.0, 0, 0, 0.02], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 2.6]])[None], intrinsics[None])
    rays = camera.rays(camera.image_plane(pixel_centers(64, 64)[None]))
    origin = rays.origin - torch.tensor([0.1, 0.05, -0.08])
    a, b = rays.direction.square().sum(-1), (rays.direction * origin).sum(-1)
    gap = b.square() - a * (origin.square().sum(-1) - 0.16)
    depth = torch.where(gap > 0, (-b - gap.clamp(min=0).sqrt()) / a, torch.inf).view(64, 64).numpy()
    image = np.full((64, 64, 3), 99, np.uint8)
    return ImageSample(image, np.isfinite(depth).astype(np.float32), camera.map(lambda matrix: matrix[0])), depth


@CAMERAS
@pytest.mark.parametrize("changes", [{}, {"scale_jitter": 0.4}, {"mirror": True}, {"scale_jitter": 0.4, "mirror": True}])
@pytest.mark.parametrize("boundary_fraction", [0.0, 0.5])
def test_hull_depths_stay_on_the_surface_however_pictures_change(kind: type, changes: dict, boundary_fraction: float) -> None:
    """The point of the changed camera's ray at the depth lies on the zoomed and mirrored ball, to half a pixel."""
    picture, depth = ball_picture(kind)
    settings = BatchSettings(300, boundary_fraction, jitter=True, **changes)
    hulls = HullDepth(depth[None], pathlib.Path(), 0)
    dataset, keys = PictureDataset(Memory([picture]), settings, hull_depth=hulls), [SampleKey(0, i) for i in range(24)]
    pictures, params = dataset.__getitems__(keys)
    views = make_views(pictures, params, settings)
    grown = params.zoom[:, None, None] if kind is OrthographicCamera else torch.ones(24, 1, 1)
    turn = torch.where(params.mirrored[:, None, None], torch.tensor([-1.0, 1.0, 1.0]), 1.0)
    center = turn * grown * torch.tensor([0.1, 0.05, -0.08])
    known = views.hull_depth.isfinite()
    rays = views.camera.rays(views.uv)
    outward = rays.at(views.hull_depth.nan_to_num(posinf=0.0)) - center
    error = (outward.norm(dim=-1) - 0.4 * grown[..., 0]).abs()
    assert known.sum() > 1000
    if "scale_jitter" not in changes:
        assert torch.equal(known, views.inside)
        assert error[known].max() < 1e-5
        return
    assert (known == views.inside).float().mean() > 0.97
    steep = known & (torch.cosine_similarity(-outward, rays.direction, dim=-1) > 0.7)
    assert steep.sum() > 300
    assert error[steep].max() < 0.02
    assert params.zoom.min() < 0.7
    assert params.zoom.max() > 1.3


def test_zoomed_depths_are_the_old_pixels_and_nothing_where_the_border_is_revealed() -> None:
    depth = torch.arange(16.0).view(1, 4, 4)
    larger, smaller, same = (zoom_nearest(depth, torch.tensor([factor]), -1.0)[0] for factor in (2.0, 0.5, 1.0))
    assert larger.tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]
    assert (smaller[1:3, 1:3] >= 0).all()
    smaller[1:3, 1:3] = -1
    assert (smaller == -1).all()
    assert torch.equal(same, depth[0])
    assert zoom_nearest(torch.zeros(3, 0, 0), torch.ones(3), -1.0).shape == (3, 0, 0)


def test_a_picture_that_zoom_would_spoil_stays_as_it_is() -> None:
    source = Blobs(PerspectiveCamera, 1)
    source.pictures[0] = source.pictures[0]._replace(alpha=np.pad(np.ones((22, 30), np.float32), 1))
    settings = BatchSettings(num_rays=50, scale_jitter=0.5)
    pictures, params = PictureDataset(source, settings).__getitems__([SampleKey(0, number) for number in range(20)])
    views, larger = make_views(pictures, params, settings), params.zoom > 1.1
    assert larger.any()
    focal = source.pictures[0].camera.intrinsics[0, 0]
    assert (views.camera.intrinsics[larger, 0, 0] == focal).all()
    assert (views.camera.intrinsics[params.zoom < 0.9, 0, 0] < focal).all()
    assert views.distance.isfinite().all()


@CAMERAS
@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("scale_jitter", [0.0, 0.9])
def test_a_batch_is_its_pictures_one_by_one(kind: type, jitter: bool, scale_jitter: float) -> None:
    settings = BatchSettings(200, 0.6, 0.5, jitter, scale_jitter)
    dataset = PictureDataset(Blobs(kind), settings)
    keys = [SampleKey(i % 5, i) for i in range(12)]
    together = dataset.views(keys)
    assert type(together.camera) is kind
    for i, key in enumerate(keys):
        alone = dataset.views([key])
        for name in ("image", "distance", "inside", "weight", "index"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folder", [False, True])
def test_pictures_on_the_device_and_from_the_loader_make_the_same_batch(folder: bool, tmp_path) -> None:
    """Bit for bit; preloaded or not."""
    settings = BatchSettings(64, 0.5, 0.5, True, 0.2)
    plain, keys = PictureDataset(Blobs(OrthographicCamera), settings), [SampleKey(4 - i % 5, i) for i in range(9)]
    preloaded = PreloadedSource(Blobs(OrthographicCamera), "blobs", tmp_path if folder else None)
    rows, params = DrawDataset(settings).__getitems__(keys)
    expected = plain.views(keys)
    for views in (
        make_views(preloaded.pictures().select(rows), params, settings),
        PictureDataset(preloaded, settings, checked=True).views(keys),
    ):
        assert all(map(torch.equal, tree_leaves(views), tree_leaves(expected)))


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
@pytest.mark.parametrize("settings", [BatchSettings(), BatchSettings(num_rays=64, jitter=True)], ids=["all", "some"])
def test_batches_have_the_trainers_precision(dtype: torch.dtype, settings: BatchSettings) -> None:
    """Which Lightning gives what comes from the loader, before it goes to the device."""
    keys = [SampleKey(i, i) for i in range(3)]
    source = Memory(Blobs(PerspectiveCamera).pictures, points=5)
    batch = PictureDataset(source, settings).__getitems__(keys)
    expected = make_views(*batch, settings)
    views = make_views(
        *apply_to_collection(batch, torch.Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x), settings
    )
    assert {leaf.dtype for leaf in tree_leaves(views) if leaf.is_floating_point()} == {dtype}
    if dtype is torch.double or settings.num_rays:
        pixel = (expected.distance.to(dtype) - views.distance).abs()
        assert (pixel <= (0 if dtype is torch.double else 0.01)).all()


def test_nothing_leaves_the_device() -> None:
    """On the meta device, which knows no values: nothing is read back, and nothing is made elsewhere."""
    settings, meta = BatchSettings(64, 0.5, 1.0, True, 0.2), torch.device("meta")
    stored = PreloadedSource(Blobs(PerspectiveCamera), "blobs").pictures()
    rows, params = DrawDataset(settings).__getitems__([SampleKey(i, i) for i in range(3)])
    for random in (params, None):
        expected = make_views(stored.select(rows), random, settings)
        there = apply_to_collection(random, torch.Tensor, lambda tensor: tensor.to(meta))
        views = make_views(stored.to(meta).select(rows.to(meta)), there, settings)
        for ours, theirs in zip(tree_leaves(views), tree_leaves(expected), strict=True):
            assert (ours.device.type, ours.shape, ours.dtype) == ("meta", theirs.shape, theirs.dtype)


def test_collating_pads_clouds_with_nan_and_stacks_the_rest() -> None:
    pictures = [random_picture(PerspectiveCamera) for _ in range(3)]
    dataset = PictureDataset(Memory(pictures, points=5))
    batch = dataset.views(range(3))
    assert batch.points.shape == (3, 10, 3)
    assert batch.points.isfinite().all(-1).sum(1).tolist() == [0, 5, 10]
    assert batch.index.tolist() == [0, 1, 2]
    assert type(batch.camera) is PerspectiveCamera
    assert batch.camera.world_to_camera.shape == (3, 3, 4)
    assert batch.uv.shape == (3, 768, 2)
    assert {t.dtype for t in (batch.image, batch.uv, batch.color, batch.distance, batch.weight)} == {torch.float32}
    torch.testing.assert_close(batch.uv[1], dataset.views([1]).uv[0])
    assert dataset.views([0]).points.shape == (1, 0, 3)


def test_real_airplanes_project_into_their_masks(airplanes) -> None:
    """99.5 % of the true surface falls on touched pixels, and D, in image-plane units, is 0 there."""
    for split in ("val", "test"):
        source = ShapeNetSource(str(airplanes), "airplane", split)
        for index in range(len(source)):
            views = PictureDataset(source).views([index])
            assert views.image.shape == (1, 3, 64, 64)
            assert views.points.shape == (1, 30_000, 3)
            screen = views.camera.screen(views.camera.project(views.points)[0])[0]
            column, row = ((screen + 1) * 32).floor().long().clamp(0, 63).unbind(-1)
            touched = views.inside | (views.distance == 0)
            assert touched[0, row * 64 + column].float().mean() > 0.995
            assert (views.camera.project(views.points)[1] > 1.9).all()


def test_real_distances_are_in_units_of_the_image_plane(airplanes) -> None:
    views = PictureDataset(ShapeNetSource(str(airplanes), "airplane", "val")).views([0])
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
        views = PictureDataset(source).views([index])
        tree = KDTree(views.points[0].numpy())
        uv, _ = views.camera.project(views.points)
        gap = KDTree(uv[0].numpy()).query(views.uv[0].numpy())[0]
        assert (gap[views.inside[0].numpy()] < 1.5 * 2 / 64 / 3.7320508).mean() > 0.99
        depth = 2 + 1.5 * torch.rand(1, 4096, 5)
        true = tree.query(views.camera.rays(views.uv).at(depth).numpy())[0]
        bound = views.camera.lower_bound(depth, views.uv, views.distance).numpy()
        assert (bound <= true + 1e-5)[~views.inside.numpy()].mean() > 0.9999
