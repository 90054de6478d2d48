"""ShapeNet renderings by Kato et al. ("NMR"), as packaged for DVR; any data in that layout works."""

from __future__ import annotations

import functools
import pathlib
import random
from typing import Unpack

import numpy as np
import torch
from PIL import Image

from sdfsrn.data.batches.datamodule import Loading, ViewsDataModule
from sdfsrn.data.images import open_image, read_mask
from sdfsrn.data.source import GroundTruth, ImageSample, other_sides
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.runtime.files import check_points, read_npz, reading
from sdfsrn.runtime.texts import read_text

SYNSETS = {"airplane": "02691156", "car": "02958343", "chair": "03001627"}


class ShapeNetSource(GroundTruth):
    """One split of one category.

    Layout: `<root>/<synset>/softras_<split>.lst` names the models, one per line; a model's folder has `image/0000.png`,
    `mask/0000.png` ..., `cameras.npz` (`world_mat_i` world to camera in OpenCV axes, `camera_mat_i` z = 1 plane to screen)
    and, for evaluation, `pointcloud.npz` (`points`). Cameras are read, never assumed.

    Args:
        root: folder that holds the synsets.
        category: airplane, car, chair, or a synset number.
        split: train, val or test.
        num_models: that many models of the training list, drawn at random; None and `all` take all.
        views: `all`: every view is a picture of its own; `one`: one random, fixed view per model. Val and test always take one,
            view 5 i mod (number of views) of model i.
        num_points: of ground truth, at most.
        seed: of the choice of models and views.
        intersect_with: the folder ShapeNetCore.v2; models that it lacks are left out, as in the paper's Table 5.

    Raises:
        ValueError: missing folders or files, named, with the remedy.
    """

    def __init__(
        self,
        root: str,
        category: str,
        split: str,
        num_models: int | str | None = None,
        views: str = "all",
        num_points: int = 30_000,
        seed: int = 0,
        intersect_with: str | None = None,
    ) -> None:
        if views not in ("all", "one"):
            raise ValueError(f"Expected data.views of all or one, got {views}.")
        self.folder = pathlib.Path(root) / SYNSETS.get(category, category)
        self.split = split
        self.num_points = num_points
        models = _read_list(self.folder, split)
        self.counts = {"models listed": len(models)}
        if intersect_with is not None:
            models = _intersection(models, pathlib.Path(intersect_with) / self.folder.name)
        self.counts["models"] = len(models)
        if num_models not in (None, "all") and split == "train":
            if not isinstance(num_models, int) or not 1 <= num_models <= len(models):
                raise ValueError(f"Expected data.num_models between 1 and {len(models)}, or all, got {num_models}.")
            models = sorted(random.Random(seed).sample(models, num_models))
        self.records = [
            (model, view)
            for i, model in enumerate(models)
            for view in self._choose(_views(self.folder / model), i, model, views, seed)
        ]
        self.names = [str(self.folder / model / "image" / f"{view:04d}.png") for model, view in self.records]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def objects(self) -> list[str]:
        """The model of each picture."""
        return [model for model, _ in self.records]

    def picture(self, index: int) -> ImageSample:
        """Image, mask and camera of a view."""
        return self._picture(*self.records[index])

    def other_views(self, index: int) -> list[ImageSample]:
        """Four views of the same model, evenly spaced from this one on."""
        model, view = self.records[index]
        return [self._picture(model, other) for other in other_sides(view, _views(self.folder / model))]

    def _picture(self, model: str, view: int) -> ImageSample:
        folder = self.folder / model
        image = _open(folder / "image" / f"{view:04d}.png", 3)
        path = folder / "mask" / f"{view:04d}.png"
        return ImageSample(np.asarray(image), read_mask(_open(path, 1), str(path), drawn=True).alpha, _cameras(folder)[view])

    def points(self, index: int) -> np.ndarray:
        """Surface points of the view's model; none in training."""
        if self.split == "train":
            return np.zeros((0, 3), np.float32)
        path = self.folder / self.records[index][0] / "pointcloud.npz"
        points = read_npz(path, ["points"])["points"].astype(np.float32)
        check_points(points, path)
        return points[self._kept(len(points))]

    def normals(self, index: int) -> np.ndarray:
        """Unit normals of the points, if the file has `normals`; none in training."""
        if self.split == "train":
            return np.zeros((0, 3), np.float32)
        path = self.folder / self.records[index][0] / "pointcloud.npz"
        with reading(path, "points"), np.load(path, allow_pickle=False) as file:
            if "normals" not in file.files:
                return np.zeros((0, 3), np.float32)
        points, normals = read_npz(path, ["points", "normals"]).values()
        if normals.shape != points.shape or not np.isfinite(normals).all():
            raise ValueError(f"Expected a finite normal for every point, got shape {normals.shape} in {path}.")
        unit = normals / np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
        return unit.astype(np.float32)[self._kept(len(points))]

    def _kept(self, count: int) -> np.ndarray:
        return np.random.default_rng(0).permutation(count)[: self.num_points]

    def _choose(self, count: int, position: int, model: str, views: str, seed: int) -> list[int]:
        if self.split != "train":
            return [5 * position % count]
        return list(range(count)) if views == "all" else [random.Random(f"{seed}/{model}").randrange(count)]


class ShapeNetDataModule(ViewsDataModule):
    """`ShapeNetSource`, whose arguments these are; `loading` goes to `ViewsDataModule`."""

    def __init__(
        self,
        root: str,
        category: str,
        num_models: int | str | None = None,
        views: str = "all",
        num_points: int = 30_000,
        seed: int = 0,
        intersect_with: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self._open = functools.partial(
            ShapeNetSource,
            root,
            category,
            num_models=num_models,
            views=views,
            num_points=num_points,
            seed=seed,
            intersect_with=intersect_with,
        )

    def source(self, split: str) -> ShapeNetSource:
        """The pictures of a split."""
        return self._open(split=split)


def _read_list(folder: pathlib.Path, split: str) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"Expected renderings in {folder}, which does not exist: set data.root to the folder that holds it.")
    path = folder / f"softras_{split}.lst"
    if not path.is_file():
        raise ValueError(f"Expected the list of models {path}, which does not exist: data.root must follow the NMR layout.")
    models = read_text(path).split()
    if not models:
        raise ValueError(f"Expected at least one model in {path}, got an empty list.")
    escaping = [model for model in models if pathlib.PurePath(model).name != model or model in (".", "..")]
    if escaping:
        raise ValueError(f"Expected plain folder names in {path}, got {escaping[0]}.")
    return models


def _intersection(models: list[str], folder: pathlib.Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"Expected models in {folder}, which does not exist: set data.intersect_with to ShapeNetCore.v2.")
    kept = [model for model in models if (folder / model).is_dir()]
    if not kept:
        raise ValueError(f"Expected some of the {len(models)} listed models in {folder}, found none.")
    return kept


def _views(folder: pathlib.Path) -> int:
    """The number of views of a model, all of whose files exist."""
    images = sorted(path.name for path in (folder / "image").glob("*.png"))
    masks = {path.name for path in (folder / "mask").glob("*.png")}
    if not images or not (folder / "cameras.npz").is_file():
        raise ValueError(f"Expected image/0000.png ... and cameras.npz in {folder}: restore it or take it off the list.")
    missing = [name for i, name in enumerate(images) if name != f"{i:04d}.png" or name not in masks]
    if missing:
        raise ValueError(f"Expected image and mask of consecutive views in {folder}, but {missing[0]} has no partner.")
    return len(images)


def _open(path: pathlib.Path, bands: int) -> Image.Image:
    """A picture as stored, since the cameras are of the pixels as stored."""
    image = open_image(path, upright=False)
    if len(image.getbands()) != bands or image.mode in ("YCbCr", "LAB", "HSV"):
        raise ValueError(f"Expected a picture with {bands} channels, got mode {image.mode} in {path}.")
    return image


@functools.lru_cache(maxsize=100_000)
def _cameras(folder: pathlib.Path) -> list[PerspectiveCamera]:
    count = len(list((folder / "image").glob("*.png")))
    names = [f"{kind}_mat_{i}" for i in range(count) for kind in ("world", "camera")]
    matrices = read_npz(folder / "cameras.npz", names)
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or matrix.shape[0] < 3 or matrix.shape[1] < (4 if name.startswith("world") else 3):
            view = folder / "image" / f"{int(name.rsplit('_', 1)[1]):04d}.png"
            raise ValueError(f"Expected a camera matrix, got shape {matrix.shape} of {name} in cameras.npz for {view}.")
    return [
        PerspectiveCamera(
            torch.from_numpy(matrices[f"world_mat_{i}"][:3, :4].astype(np.float32)),
            torch.from_numpy(matrices[f"camera_mat_{i}"][:3, :3].astype(np.float32)),
        )
        for i in range(count)
    ]
