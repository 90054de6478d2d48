"""Files of an evaluation's objects: meshes, ground truth points, pictures, and the galleries of the first objects."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trimesh
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sdfsrn.evaluation.previews import HEADINGS
from sdfsrn.evaluation.results import Reconstruction, Result
from sdfsrn.evaluation.summary import Row, file_stem
from sdfsrn.meshes.figures import gallery, hstack
from sdfsrn.meshes.io import write_mesh
from sdfsrn.meshes.rendering import orbit_camera, render_mesh, render_points, turntable
from sdfsrn.runtime.files import write_atomically

GALLERY = 24  # objects in the galleries
TRUTH_POINTS = 10_000  # in a file of ground truth, at most


class GalleryEntry(NamedTuple):
    """An object's row in `gallery.png` and in `turntable.png`."""

    caption: str
    pictures: list[np.ndarray]
    turntable: np.ndarray


def write_result(result: Result, output: pathlib.Path, formats: Sequence[str]) -> Row:
    """Write an object's meshes, pictures and ground truth; the row, which names the files of its mesh."""
    row, reconstruction = result.row, result.reconstruction
    if reconstruction is None:
        return row
    stem = file_stem(row.number, row.name)
    _save(hstack(reconstruction.pictures), output / "pictures" / f"{stem}.png")
    if len(reconstruction.truth):
        cloud = trimesh.PointCloud(reconstruction.truth[:TRUTH_POINTS].numpy())
        write_atomically(output / "truth" / f"{stem}.ply", cloud.export(file_type="ply"))
    if len(reconstruction.mesh.faces) == 0 or not formats:
        return row
    for suffix in formats:
        write_mesh(reconstruction.mesh, output / "meshes" / f"{stem}.{suffix}")
    return row._replace(mesh=stem)


def gallery_entry(row: Row, reconstruction: Reconstruction) -> GalleryEntry:
    """Draw an object for the galleries."""
    scores = [f"{name} x10 {10 * row.values[name]:.3f}" for name in ("accuracy", "coverage") if name in row.values]
    pictures = [*reconstruction.pictures, *mesh_pictures(reconstruction)]
    around = np.asarray(hstack(turntable(reconstruction.mesh, frames=8, size=128)))
    return GalleryEntry("   ".join([row.name, *scores, row.status]), pictures, around)


def mesh_pictures(reconstruction: Reconstruction) -> list[np.ndarray]:
    """The mesh in the input's view; mesh, normals and truth from another side, which has all of the truth in sight."""
    mesh, truth, _, camera = reconstruction
    side = orbit_camera(_cube(truth), azimuth=215, elevation=20)
    aside = render_mesh(mesh, side, 160)
    return [render_mesh(mesh, camera, 160).color, aside.color, aside.normals, render_points(truth.numpy(), side, 160)]


def write_galleries(entries: Sequence[GalleryEntry], output: pathlib.Path) -> None:
    """Write `gallery.png` and `turntable.png`."""
    captions = [entry.caption for entry in entries]
    headings = [*HEADINGS, "mesh", "another side", "normals", "truth"]
    _save(gallery([entry.pictures for entry in entries], headings, captions, cell=128), output / "gallery.png")
    _save(gallery([[entry.turntable] for entry in entries], [""], captions, cell=1024), output / "turntable.png")


def _cube(points: Float[Tensor, "n 3"]) -> trimesh.Trimesh:
    """A cube about the middle of the points' bounding box, as wide as its longest side; of side 1 without points."""
    if len(points) == 0:
        return trimesh.creation.box((1.0, 1.0, 1.0))
    low, high = points.amin(0).double(), points.amax(0).double()
    cube = trimesh.creation.box([max(float((high - low).max()), 1e-6)] * 3)
    return cube.apply_translation(((low + high) / 2).numpy())


def _save(picture: Image.Image, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
