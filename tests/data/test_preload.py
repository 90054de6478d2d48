from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from sdfsrn.data.preload import PreloadedSource
from sdfsrn.data.shapenet import ShapeNetSource
from sdfsrn.data.views import Picture, ViewsDataset, outline_distance
from sdfsrn.functional.camera import PerspectiveCamera


class Counting:
    """A source that counts what is asked of it; soft masks of 16 x 16."""

    def __init__(self, coverage: np.ndarray) -> None:
        self.coverage, self.calls, self.names = coverage, 0, ["only.png"]

    def __len__(self) -> int:
        return 1

    def picture(self, index: int) -> Picture:
        self.calls += 1
        image = np.zeros((*self.coverage.shape, 3), np.uint8)
        return Picture(image, self.coverage, PerspectiveCamera(torch.eye(3, 4), torch.eye(3)))

    def points(self, index: int) -> np.ndarray:
        return np.full((2, 3), 7, np.float32)


def test_preloaded_samples_are_the_sources(balls: pathlib.Path) -> None:
    source = ShapeNetSource(str(balls), "airplane", "train")
    preloaded = PreloadedSource(source, "train")
    assert len(preloaded) == len(source)
    assert preloaded.names == source.names
    for i in range(len(source)):
        ours, theirs = ViewsDataset(preloaded)[i], ViewsDataset(source)[i]
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
    """Inside, touched or free, and so D and the bound, however the source came by its coverage."""
    coverage = np.zeros((16, 16), np.float32)
    coverage[8, 8], coverage[3, 3] = 1, value
    source = Counting(coverage)
    ours = outline_distance(PreloadedSource(source, "x").picture(0))
    assert all(map(np.array_equal, ours, outline_distance(source.picture(0))))
