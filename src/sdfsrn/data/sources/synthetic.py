"""The built-in data set: procedural chairs, airplanes and cars with exact ground truth, rendered once, kept on disk."""

from __future__ import annotations

import logging
import math
import operator
import pathlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Unpack

import numpy as np
import torch

from sdfsrn.data.batches.datamodule import Loading, ViewsDataModule
from sdfsrn.data.conventions import CAMERA_DISTANCE, NMR_DISTANCE, NMR_ELEVATION, NMR_FOCAL
from sdfsrn.data.shapes import ProceduralShape, airplane, car, chair
from sdfsrn.data.shapes.tracing import render, surface_points
from sdfsrn.data.source import SPLITS, GroundTruth, ImageSample, other_sides
from sdfsrn.functional.camera import Camera, OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.runtime.files import cache_folder, cache_key, check_cache, npz_bytes, read_npz, write_atomically
from sdfsrn.runtime.progress import track

CATEGORIES = {"airplane": airplane, "car": car, "chair": chair}
# Kato et al.'s pinhole camera, and an orthographic one in which objects are as large on the screen: distance, focal length
CAMERAS: dict[str, tuple[type[Camera], float, float]] = {
    "perspective": (PerspectiveCamera, NMR_DISTANCE, NMR_FOCAL),
    "orthographic": (OrthographicCamera, CAMERA_DISTANCE, 1.4),
}
CHOICES = {"category": CATEGORIES, "split": SPLITS, "projection": CAMERAS}
LIMITS = {
    "num_objects": (1, math.inf),
    "views_per_object": (1, math.inf),
    "image_size": (8, math.inf),
    "supersampling": (1, 15),
    "num_points": (1, math.inf),
    "seed": (0, math.inf),
}
VERSION = 1  # raise it when the same settings make other pictures

logger = logging.getLogger(__name__)


class SyntheticSource(GroundTruth):
    """One split of one category. An object depends on seed, category, split and its number, not on how many there are.

    Cameras look at the object from 30 degrees above, equally spaced around it from a random start. World frame: y up,
    objects face -z, bounding box centred with longest side 1. In training all views are pictures; in val and test
    `eval_views` an object, beginning with view 5 i mod `views_per_object` of object i.

    Args:
        category: airplane, car or chair.
        split: train, val or test; their objects differ.
        num_objects: how many.
        views_per_object: cameras around each.
        eval_views: pictures per object in val and test.
        image_size: height and width in pixels.
        projection: perspective or orthographic.
        supersampling: rays along each side of a pixel; 1 to 15.
        num_points: of ground truth on each surface, in val and test.
        seed: of everything random.
        cache: folder for the rendered split, one file for each combination of the settings above; None takes `synthetic`
            in SDFSRN_CACHE, by default ~/.cache/sdfsrn.

    Raises:
        ValueError: an argument out of range.

    """

    def __init__(
        self,
        category: str = "chair",
        split: str = "train",
        num_objects: int = 100,
        views_per_object: int = 8,
        eval_views: int = 1,
        image_size: int = 64,
        projection: str = "perspective",
        supersampling: int = 2,
        num_points: int = 30_000,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        settings = {
            "category": category,
            "split": split,
            "num_objects": num_objects,
            "views_per_object": views_per_object,
            "eval_views": eval_views,
            "image_size": image_size,
            "projection": projection,
            "supersampling": supersampling,
            "num_points": num_points,
            "seed": seed,
        }
        _check(settings)
        self.category, self.split, self.seed, self.projection = category, split, seed, projection
        self.image_size, self.supersampling, self.num_points = image_size, supersampling, num_points
        self.views_per_object = views_per_object
        self.views = [self._chosen_views(number, eval_views) for number in range(num_objects)]
        self.records = [(number, view) for number, views in enumerate(self.views) for view in views]
        self.names = [f"{category}-{split}-{number:04d}/{view:02d}" for number, view in self.records]
        self._arrays = self._load(pathlib.Path(cache) if cache else cache_folder() / "synthetic", settings)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def objects(self) -> list[int]:
        """The object of each picture."""
        return [number for number, _ in self.records]

    def picture(self, index: int) -> ImageSample:
        """Image, alpha and camera of a view."""
        alpha = self._arrays["hits"][index].astype(np.float32) / self.supersampling**2
        number, view = self.records[index]
        camera = self._cameras(number, [view])
        return ImageSample(self._arrays["image"][index], alpha, camera.map(lambda matrix: matrix[0]))

    def points(self, index: int) -> np.ndarray:
        """(n, 3) float32 surface points of the picture's object, world frame; none in training."""
        return self._arrays["points"][self.records[index][0]]

    def normals(self, index: int) -> np.ndarray:
        """Exact outward unit normals of the points."""
        points = torch.from_numpy(self.points(index))
        return torch.nn.functional.normalize(self.shape(index).normal(points), dim=-1).numpy()

    def occupancy(self, index: int, points: np.ndarray) -> np.ndarray:
        """Which points lie in one of the object's parts, exactly."""
        parts = torch.from_numpy(np.asarray(points, np.float32)).split(16384)
        return torch.cat([self.shape(index).sdf(part) < 0 for part in parts]).numpy()

    def other_views(self, index: int) -> list[ImageSample]:
        """Up to four others of the cameras around the object, evenly spaced from this one on; rendered when asked for."""
        number, view = self.records[index]
        others = other_sides(view, self.views_per_object)
        if not others:
            return []
        cameras = self._cameras(number, others)
        color, hits = render(self._shape(number), cameras, self.image_size, self.supersampling)
        image, alpha = (255 * color).round().byte().numpy(), hits.numpy().astype(np.float32) / self.supersampling**2
        return [ImageSample(image[i], alpha[i], cameras.map(operator.itemgetter(i))) for i in range(len(others))]

    def shape(self, index: int) -> ProceduralShape:
        """The signed distance function of a picture's object."""
        return self._shape(self.records[index][0])

    def _rng(self, number: int, purpose: int) -> np.random.Generator:
        place = list(CATEGORIES).index(self.category), SPLITS.index(self.split)
        return np.random.default_rng([self.seed, *place, number, purpose])

    def _shape(self, number: int) -> ProceduralShape:
        return ProceduralShape(CATEGORIES[self.category](self._rng(number, 0)))

    def _chosen_views(self, number: int, eval_views: int) -> list[int]:
        if self.split == "train":
            return list(range(self.views_per_object))
        spacing = self.views_per_object / eval_views
        return [(5 * number + int(i * spacing)) % self.views_per_object for i in range(eval_views)]

    def _cameras(self, number: int, views: list[int]) -> Camera:
        """The object's cameras at the given views, batched."""
        start = self._rng(number, 1).uniform()
        azimuth = torch.tensor([2 * math.pi * (start + view) / self.views_per_object for view in views])
        kind, distance, focal = CAMERAS[self.projection]
        intrinsics = torch.diag(torch.tensor([focal, focal, 1.0])).expand(len(views), 3, 3)
        return kind(look_at_origin(azimuth, torch.full_like(azimuth, math.radians(NMR_ELEVATION)), distance), intrinsics)

    def _load(self, folder: pathlib.Path, settings: dict) -> dict[str, np.ndarray]:
        key = cache_key([VERSION, settings])
        path = folder / f"{self.category}-{self.split}-{key}.npz"
        if path.exists():
            try:
                return _read(path, len(self.records), len(self.views))
            except ValueError as error:
                logger.warning("%s cannot be read (%s); it is rendered again.", path, error)
        check_cache(folder)
        arrays = self._generate()
        write_atomically(path, npz_bytes(**arrays))
        return arrays

    def _generate(self) -> dict[str, np.ndarray]:
        """Render all objects, one a thread, on as many threads as torch may use."""
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            objects = pool.map(self._make, range(len(self.views)))
            made = list(track(objects, f"Rendering {self.category}s ({self.split})", len(self.views), "objects"))
        torch.set_num_threads(threads)
        image, hits, points = zip(*made, strict=True)
        return {"image": np.concatenate(image), "hits": np.concatenate(hits), "points": np.stack(points)}

    def _make(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = self._shape(number)
        color, hits = render(shape, self._cameras(number, self.views[number]), self.image_size, self.supersampling)
        points = torch.zeros(0, 3)
        if self.split != "train":
            generator = torch.Generator().manual_seed(int(self._rng(number, 2).integers(2**31)))
            points = surface_points(shape, self.num_points, generator)
        return (255 * color).round().byte().numpy(), hits.byte().numpy(), points.numpy()


class SyntheticDataModule(ViewsDataModule):
    """`SyntheticSource`; `num_objects` counts the training split's, `num_eval_objects` those of val and of test.

    `shapes` goes to the source, with its arguments' names and meaning; `loading` to `ViewsDataModule`.
    """

    def __init__(self, num_objects: int, num_eval_objects: int, shapes: dict, **loading: Unpack[Loading]) -> None:
        super().__init__(**loading)
        self.counts = {"train": num_objects, "val": num_eval_objects, "test": num_eval_objects}
        self.shapes = shapes

    def source(self, split: str) -> SyntheticSource:
        """The pictures of a split, generated on first use."""
        if split not in self.counts:
            raise ValueError(f"Expected train, val or test, got {split}.")
        return SyntheticSource(split=split, num_objects=self.counts[split], **self.shapes)


def _check(settings: dict[str, Any]) -> None:
    for name, choices in CHOICES.items():
        if settings[name] not in choices:
            raise ValueError(f"Expected data.{name} to be one of {', '.join(choices)}, got {settings[name]}.")
    limits = {**LIMITS, "eval_views": (1, settings["views_per_object"])}
    for name, (low, high) in limits.items():
        if not low <= settings[name] <= high:
            allowed = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise ValueError(f"Expected data.{name} to be {allowed}, got {settings[name]}.")


def _read(path: pathlib.Path, num_pictures: int, num_objects: int) -> dict[str, np.ndarray]:
    arrays = read_npz(path, ["image", "hits", "points"])
    if not len(arrays["image"]) == len(arrays["hits"]) == num_pictures or len(arrays["points"]) != num_objects:
        raise ValueError(f"Expected {num_pictures} pictures of {num_objects} objects, got {len(arrays['image'])}")
    return arrays
