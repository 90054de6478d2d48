"""Pictures and masks on the command line, and turntables of meshes."""

from __future__ import annotations

import glob
import logging
import pathlib
from collections.abc import Sequence

import numpy as np
import trimesh
from jaxtyping import UInt8
from PIL import Image

from sdfsrn.data.images import describe_skipped, is_picture
from sdfsrn.meshes.figures import hstack, write_animation
from sdfsrn.meshes.rendering import turntable

log = logging.getLogger(__name__)

SIDES, FRAMES = 8, 24  # of a turntable: on the strip, in the animation


def write_turntable(
    mesh: trimesh.Trimesh, picture: UInt8[np.ndarray, "h w 3"], path: pathlib.Path, formats: Sequence[str]
) -> list[pathlib.Path]:
    """Write views from all around as `path`.<format>: webp and gif are loops of FRAMES, png is a strip of SIDES views.

    The strip begins with `picture`, the network's input.
    """
    written = [path.with_name(f"{path.name}.{suffix}") for suffix in formats]
    frames = turntable(mesh, FRAMES if set(formats) - {"png"} else SIDES) if formats else []
    for file in written:
        if file.suffix == ".png":
            enlarged = Image.fromarray(picture).resize(frames[0].shape[:2], Image.Resampling.LANCZOS)
            hstack([np.asarray(enlarged), *frames[:: len(frames) // SIDES]]).save(file)
        else:
            write_animation(frames, file)
    return written


def find_pictures(pattern: str, key: str) -> list[pathlib.Path]:
    """The file, or the sorted pictures of a folder or a glob; other files there are counted in a warning.

    Raises:
        ValueError: no picture at all.
    """
    path = pathlib.Path(pattern)
    if path.is_file():
        return [path]
    found = sorted(path.iterdir()) if path.is_dir() else sorted(map(pathlib.Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    pictures = [file for file in found if is_picture(file)]
    skipped = describe_skipped(file for file in found if file.is_file())
    if not pictures:
        raise ValueError(f"Expected pictures at {key}={pattern}, found {f'only {skipped}' if skipped else 'none'}.")
    if skipped:
        log.warning("Skipped files at %s=%s that are no pictures: %s.", key, pattern, skipped)
    return pictures


def pair_masks(images: list[pathlib.Path], pattern: str | None) -> list[pathlib.Path | None]:
    """The mask of every image: the only one for an only image, else the one of the same name.

    Raises:
        ValueError: an image without a mask, named.
    """
    if pattern is None:
        return [None] * len(images)
    masks = find_pictures(pattern, "mask")
    if len(images) == len(masks) == 1:
        return list(masks)
    by_stem = {mask.stem: mask for mask in masks}
    missing = [image for image in images if image.stem not in by_stem]
    if missing:
        raise ValueError(f"Expected a mask named {missing[0].stem}.* at mask={pattern} for {missing[0]}, found none.")
    return [by_stem[image.stem] for image in images]
