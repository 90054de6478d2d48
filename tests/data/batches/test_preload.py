from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from sdfsrn.data import ShapeNetDataModule
from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.views import outline_distance
from sdfsrn.data.source import ImageSample
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera


class Counting:
    """A source that counts what is asked of it; soft masks of 16 x 16."""

    def __init__(self, alpha: np.ndarray) -> None:
        self.alpha, self.calls, self.names = alpha, 0, ["only.png"]

    def __len__(self) -> int:
        return 1

    def picture(self, index: int) -> ImageSample:
        self.calls += 1
        image = np.zeros((*self.alpha.shape, 3), np.uint8)
        return ImageSample(image, self.alpha, PerspectiveCamera(torch.eye(3, 4), torch.eye(3)))

    def points(self, index: int) -> np.ndarray:
        return np.full((2, 3), 7, np.float32)


def test_preloaded_samples_are_the_sources(balls: pathlib.Path) -> None:
    source = ShapeNetSource(str(balls), "airplane", "train")
    preloaded = PreloadedSource(source, "train")
    assert len(preloaded) == len(source)
    assert preloaded.names == source.names
    for i in range(len(source)):
        ours, theirs = PictureDataset(preloaded).views([i]), PictureDataset(source).views([i])
        for a, b in zip(torch.utils._pytree.tree_leaves(ours), torch.utils._pytree.tree_leaves(theirs), strict=True):
            assert torch.equal(a, b)


def test_files_are_read_once(balls: pathlib.Path) -> None:
    preloaded = PreloadedSource(ShapeNetSource(str(balls), "airplane", "train"), "train")
    for path in balls.rglob("*.png"):
        path.unlink()
    assert preloaded.picture(5).image.shape == (16, 16, 3)
    source = Counting(np.eye(16, dtype=np.float32))
    preloaded = PreloadedSource(source, "test")
    preloaded.picture(0), preloaded.picture(0)
    assert source.calls == 1
    assert np.array_equal(preloaded.points(0), source.points(0))


def test_bad_pictures_stop_the_program_before_it_starts(balls: pathlib.Path) -> None:
    path = balls / "02691156" / "b" / "mask" / "0002.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"b/image/0002\.png") as caught:
        PreloadedSource(ShapeNetSource(str(balls), "airplane", "train"), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1e-3, 1 / 255, 0.4985, 0.5, 0.9999])
def test_memory_keeps_what_a_pixel_is(value: float) -> None:
    """Inside, touched or free, and so D and the bound, however the source came by its alpha."""
    alpha = np.zeros((16, 16), np.float32)
    alpha[8, 8], alpha[3, 3] = 1, value
    source = Counting(alpha)
    pictures = [PreloadedSource(source, "x").picture(0), source.picture(0)]
    ours, theirs = (outline_distance(torch.from_numpy(p.alpha)[None], torch.ones(1, 2)) for p in pictures)
    assert all(map(torch.equal, ours, theirs))


def open_train(balls: pathlib.Path) -> ShapeNetSource:
    return ShapeNetSource(str(balls), "airplane", "train")


def same(ours: PreloadedSource, theirs: ShapeNetSource | PreloadedSource) -> bool:
    pairs = [(ours.picture(i), theirs.picture(i)) for i in range(len(theirs))]
    return len(ours) == len(theirs) and all(
        np.array_equal(a.image, b.image)
        and np.array_equal(a.alpha, b.alpha)
        and type(a.camera) is type(b.camera)
        and all(map(torch.equal, a.camera, b.camera))
        for a, b in pairs
    )


def test_memory_is_one_small_array(balls: pathlib.Path) -> None:
    records = PreloadedSource(open_train(balls), "train")._records
    assert records.nbytes == 6 * (16 * 16 * 4 + 12 * 4 + 9 * 4)


def test_what_one_writes_another_finds(balls: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packed"
    first = PreloadedSource(open_train(balls), "train", folder)
    (path,) = folder.iterdir()
    assert path.suffix == ".npy"
    assert same(first, open_train(balls))
    monkeypatch.setattr("sdfsrn.data.batches.preload._fill", None)
    second = PreloadedSource(open_train(balls), "train", folder)
    assert isinstance(second._records, np.memmap)
    assert same(second, first)
    assert [path] == list(folder.iterdir())


def test_other_pictures_or_settings_have_a_file_of_their_own(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    class Brighter(ShapeNetSource):
        def picture(self, index: int) -> ImageSample:
            picture = super().picture(index)
            return picture._replace(image=picture.image | 1)

    class Parallel(ShapeNetSource):
        def picture(self, index: int) -> ImageSample:
            picture = super().picture(index)
            return picture._replace(camera=OrthographicCamera(*picture.camera))

    sources = [kind(str(balls), "airplane", "train") for kind in (ShapeNetSource, Brighter, Parallel)]
    sources.append(ShapeNetSource(str(balls), "airplane", "train", views="one"))
    for source in sources:
        assert same(PreloadedSource(source, "train", tmp_path / "packed"), source)
    path = balls / "02691156" / "a" / "image" / "0001.png"
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(path)
    changed = open_train(balls)
    assert same(PreloadedSource(changed, "train", tmp_path / "packed"), changed)
    assert len(list((tmp_path / "packed").iterdir())) == 5


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"x"), lambda path: np.save(path, np.zeros(3))])
def test_a_spoilt_file_is_made_again(balls: pathlib.Path, tmp_path: pathlib.Path, spoil, caplog) -> None:
    PreloadedSource(open_train(balls), "train", tmp_path / "packed")
    (path,) = (tmp_path / "packed").iterdir()
    path.unlink()
    spoil(path)
    assert same(PreloadedSource(open_train(balls), "train", tmp_path / "packed"), open_train(balls))
    assert "written again" in caplog.text


def test_a_bad_picture_leaves_no_file(balls: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfsrn.data.batches.preload._PROBES", 1)  # not the bad one
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(balls / "02691156" / "b" / "mask" / "0002.png")
    with pytest.raises(ValueError, match=r"b/image/0002\.png"):
        PreloadedSource(open_train(balls), "train", tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


def test_pictures_of_two_sizes_are_refused(balls: pathlib.Path) -> None:
    for name in ("image", "mask"):
        path = balls / "02691156" / "b" / name / "0001.png"
        Image.open(path).resize((20, 20)).save(path)
    with pytest.raises(ValueError, match=r"another size.*\(20, 20\).*b/image/0001\.png"):
        PreloadedSource(open_train(balls), "train")


@pytest.mark.parametrize("packed", [False, True])
def test_the_samples_depend_neither_on_packing_nor_on_workers_where_nothing_is_random(
    balls: pathlib.Path, tmp_path: pathlib.Path, packed: bool
) -> None:
    folder = str(tmp_path / "packed") if packed else None
    options = {"root": str(balls), "category": "airplane", "batch_size": 2, "num_rays": 256}
    plain = ShapeNetDataModule(**options, preload=False)
    fast = ShapeNetDataModule(**options, num_workers=2, memmap_dir=folder)
    for ours, theirs in zip(fast.test_dataloader(), plain.test_dataloader(), strict=True):
        views = [module.on_after_batch_transfer(batch, 0) for module, batch in ((fast, ours), (plain, theirs))]
        assert all(map(torch.equal, *map(torch.utils._pytree.tree_leaves, views)))
        assert views[0].points.shape == (1, 40, 3)


def test_training_under_a_seed_is_the_same_twice_and_only_training_is_jittered(
    balls: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    options = {"root": str(balls), "category": "airplane", "batch_size": 2, "num_rays": 64}

    def batches(workers: int) -> list[torch.Tensor]:
        torch.manual_seed(5)
        module = ShapeNetDataModule(**options, jitter=True, scale_jitter=0.2, num_workers=workers, memmap_dir=str(tmp_path))
        return [leaf for views in module.train_dataloader() for leaf in torch.utils._pytree.tree_leaves(views)]

    for workers in (0, 2):
        assert all(map(torch.equal, batches(workers), batches(workers)))
    module = ShapeNetDataModule(**options, jitter=True, scale_jitter=0.2)
    for split in ("val", "test"):
        first, second = (module.dataset(split).views([0]) for _ in range(2))
        assert all(map(torch.equal, torch.utils._pytree.tree_leaves(first), torch.utils._pytree.tree_leaves(second)))
        assert first.uv.shape == (1, 256, 2)
    with pytest.raises(ValueError, match="preload"):
        ShapeNetDataModule(**options, preload=False, memmap_dir=str(tmp_path))


def test_the_pictures_memory_is_shared(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for folder in (None, tmp_path):
        source = PreloadedSource(open_train(balls), "train", folder)
        first, second = (source.pictures().to(torch.device("cpu")) for _ in range(2))
        assert first.rgba.data_ptr() == second.rgba.data_ptr()
