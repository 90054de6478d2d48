"""python -m sdfsrn.pretrained outputs/train/...: make the package's own model, and its pictures, from a run."""

from __future__ import annotations

import logging
import pathlib
import sys

import numpy as np
import torch

from sdfsrn import pretrained
from sdfsrn.checkpoints.exporting import export
from sdfsrn.checkpoints.loading import load
from sdfsrn.data import ImageSample, SyntheticSource
from sdfsrn.functional.pointcloud import nearest_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.meshes.rendering import orbit_camera, render_mask
from sdfsrn.runtime.files import png_bytes, write_atomically
from sdfsrn.system import ShapeModel

OBJECTS = (2, 9)  # of the test split
SIZE, SIDE = 256, 128  # pixels of the pictures, and of the silhouettes compared

log = logging.getLogger(__name__)


def make(run: pathlib.Path) -> None:
    """Write the pictures and the model, and log how far the rounding of the weights moves its surfaces."""
    source = SyntheticSource("chair", "test", max(OBJECTS) + 1, image_size=SIZE, supersampling=4, num_points=1)
    for number in OBJECTS:
        write_picture(source.picture(number), pretrained.CHECKPOINT.with_name(f"chair_{number}.png"))
    export(run / "checkpoints" / "best.ckpt", pretrained.CHECKPOINT)
    distance, overlap = rounding(load(run / "checkpoints" / "best.ckpt"), load(pretrained.CHECKPOINT))
    log.info("Wrote %s, %.2f MB", pretrained.CHECKPOINT, pretrained.CHECKPOINT.stat().st_size / 1e6)
    log.info("float16 moves the surface by %.1e on average; IoU of silhouettes at least %.4f", distance, overlap)


def write_picture(picture: ImageSample, path: pathlib.Path) -> None:
    """Write a picture as PNG with alpha."""
    write_atomically(path, png_bytes(np.dstack([picture.image, np.round(picture.alpha * 255).astype(np.uint8)])))


@torch.no_grad()
def rounding(model: ShapeModel, rounded: ShapeModel) -> tuple[float, float]:
    """How two models differ on the pictures: the mean distance between their vertices, the least IoU of their silhouettes.

    Distances go from each vertex to the nearest one of the other mesh; silhouettes are seen from four sides.
    """
    distances, overlaps = [], []
    for path in pretrained.pictures():
        mesh, other = (m(m.preprocessing(path)[None]).mesh(color=False) for m in (model, rounded))
        distances.append(float(nearest_distance(*(torch.from_numpy(m.vertices.copy()) for m in (other, mesh))).mean()))
        for azimuth in (0, 90, 180, 270):
            camera = orbit_camera(mesh, azimuth, 20)
            masks = (torch.from_numpy(render_mask(m, camera, SIDE) >= 0.5) for m in (mesh, other))
            overlaps.append(float(intersection_over_union(*masks)))
    return float(np.mean(distances)), min(overlaps)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make(pathlib.Path(sys.argv[1]))
