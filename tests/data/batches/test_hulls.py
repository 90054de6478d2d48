from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves

import sdfsrn.data.batches.hulls as hulls
from scenes import CAMERAS, Memory, random_picture, scene
from sdfsrn.data import FolderSource, Pascal3DSource, ShapeNetDataModule, SourceDataModule, SyntheticDataModule
from sdfsrn.data.batches.hulls import HullDepth, load_hull_depth, objects_of
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.data.sources.synthetic import SyntheticSource
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin
from sdfsrn.functional.hull import hull_depth, visual_hull

SIZE = 16


class Balls(Memory):
    """Views of balls of the given radii from all around, one after the other."""

    def __init__(self, kind: type = PerspectiveCamera, radii: tuple[float, ...] = (0.3, 0.45), views: int = 3) -> None:
        super().__init__([self._view(kind, radius, view / views) for view in range(views) for radius in radii])
        self.objects = list(range(len(radii))) * views

    def _view(self, kind: type, radius: float, turn: float) -> ImageSample:
        place = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
        alpha = (np.hypot(place, place[:, None]) < 1.4 * radius).astype(np.float32)
        pose = look_at_origin(torch.tensor([6.28 * turn]), torch.tensor([0.5]), 2.7)[0]
        focal = 3.7 if kind is PerspectiveCamera else 1.4
        image = np.full((SIZE, SIZE, 3), 99, np.uint8)
        return ImageSample(image, alpha, kind(pose, torch.diag(torch.tensor([focal, focal, 1.0]))))


def load(source: Balls, folder: pathlib.Path) -> HullDepth:
    return load_hull_depth(source, objects_of(source), "balls", folder)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid further computation."""
    monkeypatch.setattr(hulls, "hull_depth", None)


@CAMERAS
def test_every_picture_has_the_depth_of_its_objects_hull_to_float16(kind: type, tmp_path: pathlib.Path) -> None:
    source = Balls(kind)
    found = load(source, tmp_path)
    assert found.depth.dtype == np.float16
    assert found.seconds > 0
    for ball in range(2):
        views = [source.picture(index) for index in range(ball, 6, 2)]
        inside = torch.from_numpy(np.stack([view.alpha > 0.5 for view in views]))
        camera = kind(*map(torch.stack, zip(*(view.camera for view in views), strict=True)))
        expected = hull_depth(inside, camera).numpy()
        ours = found.depth[ball::2].astype(np.float32)
        assert np.array_equal(np.isfinite(ours), np.isfinite(expected))
        assert np.isfinite(ours).any((1, 2)).all()
        known = np.isfinite(ours)
        error = np.abs(ours[known] - expected[known])
        assert (error <= 2.0**-11 * expected[known]).all()
        assert error.max() < 1.1 / 64 / 10  # of a grid step


def test_what_one_makes_another_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(Balls(), tmp_path)
    assert [first.path] == list(tmp_path.iterdir())
    forbid(monkeypatch)
    for source in (Balls(), PreloadedSource(Balls(), "balls")):
        second = load_hull_depth(source, Balls().objects, "balls", tmp_path)
        assert (second.path, second.seconds) == (first.path, 0)
        assert isinstance(second.depth, np.memmap)
        assert np.array_equal(second.depth, first.depth)


def changed_mask(source: Balls) -> None:
    picture = source.pictures[3]
    source.pictures[3] = picture._replace(alpha=picture.alpha * (np.arange(SIZE) < SIZE - 5))


def changed_camera(source: Balls) -> None:
    picture = source.pictures[3]
    source.pictures[3] = picture._replace(camera=picture.camera._replace(intrinsics=picture.camera.intrinsics * 1.0001))


def changed_objects(source: Balls) -> None:
    source.objects = [0] * 6


@pytest.mark.parametrize("change", [changed_mask, changed_camera, changed_objects])
def test_other_silhouettes_cameras_or_objects_have_a_file_of_their_own(
    change: Callable[[Balls], None], tmp_path: pathlib.Path
) -> None:
    source = Balls()
    before = load(source, tmp_path)
    change(source)
    after = load(source, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([before.path, after.path])
    if change is not changed_camera:  # by less than a pixel
        assert not np.array_equal(before.depth, after.depth)


@CAMERAS
def test_the_hull_holds_all_of_an_object_however_thin(kind: type) -> None:
    """A rod thinner than a pixel, which covers half of none in most views, keeps all nodes inside it."""
    pictures = [random_picture(kind, (32, 32)) for _ in range(8)]
    axis = torch.linspace(-0.55, 0.55, 64)
    solid = scene(torch.cartesian_prod(axis, axis, axis)).view(64, 64, 64) < 0
    camera = kind(*map(torch.stack, zip(*(picture.camera for picture in pictures), strict=True)))
    kept = [
        visual_hull(torch.from_numpy(np.stack([picture.alpha >= least for picture in pictures])), camera)
        for least in (1e-6, 0.5)
    ]
    assert solid.sum() > 5000
    assert kept[0][solid].all()
    assert not kept[1][solid].all()


def test_pixels_that_are_touched_count(tmp_path: pathlib.Path) -> None:
    source, half = Balls(), Balls()
    half.pictures = [picture._replace(alpha=picture.alpha * np.float32(0.4)) for picture in half.pictures]
    assert np.array_equal(load(half, tmp_path).depth, load(source, tmp_path).depth)


def test_colours_change_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Balls()
    load(source, tmp_path)
    source.pictures = [picture._replace(image=picture.image // 2) for picture in source.pictures]
    forbid(monkeypatch)
    load(source, tmp_path)


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"x"), lambda path: np.save(path, np.zeros(3))])
def test_a_spoilt_file_is_made_again(tmp_path: pathlib.Path, spoil: Callable[[pathlib.Path], None], caplog) -> None:
    first = load(Balls(), tmp_path)
    expected = np.array(first.depth)
    first.path.unlink()
    spoil(first.path)
    assert np.array_equal(load(Balls(), tmp_path).depth, expected)
    assert "made again" in caplog.text


def killed_after_one(objects: list, *_, **__) -> Iterator:
    yield objects[0]
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_in_the_middle_leaves_no_file(tmp_path: pathlib.Path) -> None:
    child = os.fork()
    if not child:
        hulls.track = killed_after_one  # type: ignore[misc, assignment]
        load(Balls(), tmp_path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    partial = list(tmp_path.iterdir())
    assert [path.suffix for path in partial] == [".tmp"]
    found = load(Balls(), tmp_path)
    assert found.seconds > 0
    assert np.isfinite(found.depth).any((1, 2)).all()


def test_two_processes_that_make_them_at_once_read_whole_files(tmp_path: pathlib.Path) -> None:
    source, expected = Balls(), np.array(load(Balls(), tmp_path / "alone").depth)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(load(source, tmp_path / "shared").depth, expected) else 1)
    assert np.array_equal(load(source, tmp_path / "shared").depth, expected)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list((tmp_path / "shared").iterdir())) == 1


def test_an_error_in_the_middle_leaves_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    with pytest.raises(TypeError):
        load(Balls(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_sources_know_their_objects(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert objects_of(ShapeNetSource(str(balls), "airplane", "train")) == list("aaabbb")
    settings = {"num_objects": 2, "views_per_object": 3, "image_size": 8, "cache": str(tmp_path)}
    assert objects_of(SyntheticSource("car", "train", **settings)) == [0, 0, 0, 1, 1, 1]
    assert not any(hasattr(kind, "objects") for kind in (FolderSource, Pascal3DSource))


def test_one_view_per_object_is_refused_and_nothing_is_preloaded(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = {"image_size": 8, "cache": str(tmp_path), "views_per_object": 1}
    own = Balls()
    own.objects = list(range(6))
    for data in (
        SyntheticDataModule(2, 1, settings, hull_depth=True),
        ShapeNetDataModule(str(balls), "airplane", views="one", hull_depth=True),
        SourceDataModule(Memory(own.pictures), own, hull_depth=True),
        SourceDataModule(own, own, hull_depth=True),
    ):
        with pytest.raises(ValueError, match=r"several views per object.* got one: choose data=shapenet") as caught:
            data.dataset("train")
        assert "\n" not in str(caught.value)
        assert data.dataset("val").hull_depth is None


def test_training_has_the_depths_of_its_rays_and_nobody_else_has_any(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = {"root": str(balls), "category": "airplane", "num_rays": 256, "hull_folder": str(tmp_path / "hulls")}
    data = ShapeNetDataModule(**options, hull_depth=True)
    training = data.dataset("train")
    views = training.views(range(6))
    assert torch.equal(views.hull_depth, torch.from_numpy(np.array(training.hull_depth.depth)).float().flatten(1))
    assert views.hull_depth.isfinite().any(1).all()
    assert views.hull_depth[~views.inside & (views.distance > 0)].isinf().all()  # on pixels that the object does not touch
    assert data.dataset("val").views([0]).hull_depth.isinf().all()
    plain = ShapeNetDataModule(**options)
    assert plain.dataset("train").hull_depth is None
    assert plain.dataset("train").views([0]).hull_depth.isinf().all()
    assert plain.dataset("train").__getitems__([0]).pictures.hull_depth.numel() == 0
    for ours, theirs in zip(views, plain.dataset("train").views(range(6)), strict=True):
        if ours is not views.hull_depth:
            assert all(map(torch.equal, tree_leaves(ours), tree_leaves(theirs)))


def test_changed_masks_on_disk_make_other_depths(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def depth() -> np.ndarray:
        data = ShapeNetDataModule(str(balls), "airplane", num_rays=9, hull_depth=True, hull_folder=str(tmp_path / "hulls"))
        return np.array(data.dataset("train").hull_depth.depth)

    before = depth()
    path = balls / "02691156" / "a" / "mask" / "0001.png"
    mask = np.array(Image.open(path))
    mask[:8] = 0
    Image.fromarray(mask).save(path)
    after = depth()
    assert np.array_equal(before[3:], after[3:])
    assert all((after[view] > before[view]).any() for view in range(3))  # the other two views of the model, too
    assert (after[:3] >= before[:3]).all()
