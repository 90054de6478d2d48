"""What is exported comes back: pixels, D(u), cameras and points."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.preparing.export import export_folder
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.synthetic import SyntheticSource


def made(cache: pathlib.Path, split: str, projection: str) -> SyntheticSource:
    settings = {"num_objects": 2, "views_per_object": 3, "eval_views": 2, "image_size": 24, "num_points": 100}
    return SyntheticSource(split=split, projection=projection, cache=str(cache / "cache"), **settings)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_round_trip(tmp_path: pathlib.Path, projection: str) -> None:
    sources = {split: made(tmp_path, split, projection) for split in ("train", "test")}
    export_folder(sources, tmp_path / "out")
    for split, source in sources.items():
        back = FolderSource(str(tmp_path / "out"), split, image_size=24)
        assert len(back) == len(source)
        for index in range(len(source)):
            one, two = (PictureDataset(each).views([index]) for each in (source, back))
            assert (one.image - two.image).abs().max() <= 2.01 * 2 / 255  # colour and alpha of 8 bits each
            assert torch.equal(one.inside, two.inside)
            torch.testing.assert_close(one.camera, two.camera, rtol=0, atol=1e-6)
            torch.testing.assert_close(one.uv, two.uv, rtol=0, atol=1e-6)
            torch.testing.assert_close(one.distance, two.distance, rtol=0, atol=1e-6)
            assert {tuple(p) for p in one.points[0].tolist()} == {tuple(p) for p in two.points[0].tolist()}
    shapes = list((tmp_path / "out" / "shapes").iterdir())
    assert len(shapes) == 2  # one an object, though each has two views


def test_only_an_empty_folder_is_written_to(tmp_path: pathlib.Path) -> None:
    sources = {"train": made(tmp_path, "train", "perspective")}
    (tmp_path / "out").mkdir()
    export_folder(sources, tmp_path / "out")
    table = (tmp_path / "out" / "cameras.csv").read_bytes()
    with pytest.raises(ValueError, match="new or empty folder"):
        export_folder(sources, tmp_path / "out")
    with pytest.raises(ValueError, match="new or empty folder"):
        export_folder(sources, tmp_path / "out" / "cameras.csv")
    assert (tmp_path / "out" / "cameras.csv").read_bytes() == table


def test_an_unfinished_export_is_no_data_set(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path, "train", "perspective")
    picture = source.picture(0)

    def fail(index: int):
        if index == 3:
            raise ValueError("broken")
        return picture

    monkeypatch.setattr(source, "picture", fail)
    with pytest.raises(ValueError, match="broken"):
        export_folder({"train": source}, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    with pytest.raises(ValueError, match=r"cameras.csv or cameras.json"):
        FolderSource(str(tmp_path / "out"), "train")


def test_all_digits_are_kept(tmp_path: pathlib.Path) -> None:
    source = made(tmp_path, "train", "perspective")
    export_folder({"train": source}, tmp_path / "out")
    back = FolderSource(str(tmp_path / "out"), "train", image_size=24)
    for index in range(len(source)):
        assert np.array_equal(back.picture(index).camera.world_to_camera, source.picture(index).camera.world_to_camera)
