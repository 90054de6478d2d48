"""Depths of visual hulls, made once for the pictures of a split from all silhouettes of each object, and kept in a file.

A silhouette here is every pixel that the object touches, so that the hull holds all of the object. Those that it covers by half
would not do: thin parts are less than that in some view or other, and one view is enough to carve them away.
"""

from __future__ import annotations

import hashlib
import logging
import pathlib
import time
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16

from sdfsrn.data.source import ObjectViews, Source
from sdfsrn.functional.hull import hull_depth
from sdfsrn.runtime.files import check_cache, replacing
from sdfsrn.runtime.progress import track

VERSION = 1  # raise it when the same silhouettes have other depths

log = logging.getLogger(__name__)


class HullDepth(NamedTuple):
    """Depth z of the visual hull at every pixel of a split's pictures; inf beside it."""

    depth: Float16[np.ndarray, "n h w"]  # mapped into memory, copied on writing
    path: pathlib.Path
    seconds: float  # that it took to make them; 0 if the file was there


def objects_of(source: Source) -> list[Hashable]:
    """Which object each picture shows.

    Raises:
        ValueError: no object has several views, so that there is nothing to make a visual hull of.
    """
    objects = list(source.objects) if isinstance(source, ObjectViews) else []
    if len(set(objects)) == len(objects):
        raise ValueError(
            "Expected several views per object with data.hull_depth=true, since a visual hull is made of all silhouettes of an "
            "object, got one: choose data=shapenet data.views=all, data=synthetic with several views, or a model without it."
        )
    return objects


def load_hull_depth(source: Source, objects: Sequence[Hashable], description: str, folder: pathlib.Path) -> HullDepth:
    """The depths in a file of `folder`, which is made first if there is none for these silhouettes and cameras.

    Args:
        source: pictures of one size and one kind of camera.
        objects: which one each picture shows, see `objects_of`.
        description: of the source, for people and in the name of the file.
        folder: keeps the file, whose name ends with a digest of all silhouettes and cameras and of which belong together.
    """
    views = defaultdict(list)
    for index, name in enumerate(objects):
        views[name].append(index)
    path = folder / f"hull-{description}-{_fingerprint(source, list(views.values()))}.npy"
    depth = _open(path, len(source))
    if depth is not None:
        return HullDepth(depth, path, 0.0)
    check_cache(folder)
    start = time.perf_counter()
    _write(path, source, list(views.values()), description)
    seconds = time.perf_counter() - start
    log.info("Made the visual hulls of %d objects in %.0f s: %s", len(views), seconds, path)
    return HullDepth(np.load(path, mmap_mode="c", allow_pickle=False), path, seconds)


def _open(path: pathlib.Path, count: int) -> np.ndarray | None:
    """The depths in a file, mapped into memory; None if there is no file or its content is not what its name says."""
    if not path.exists():
        return None
    try:
        depth = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # of a damaged file
        log.warning("%s cannot be read (%s); it is made again.", path, error)
        return None
    if depth.dtype != np.float16 or depth.ndim != 3 or len(depth) != count:
        log.warning("%s does not hold the depths of %d pictures; it is made again.", path, count)
        return None
    return depth


def _write(path: pathlib.Path, source: Source, views: list[list[int]], description: str) -> None:
    """Fill a temporary file, which may be larger than memory, and move it into place."""
    size = source.picture(0).alpha.shape
    with replacing(path) as temporary:
        depth = np.lib.format.open_memmap(temporary, "w+", np.float16, (len(source), *size))
        for indices in track(views, f"Visual hulls {description}", len(views), "objects"):
            pictures = [source.picture(index) for index in indices]
            touched = torch.from_numpy(np.stack([picture.alpha > 0 for picture in pictures]))
            matrices = (torch.stack(matrix).float() for matrix in zip(*(picture.camera for picture in pictures), strict=True))
            depth[indices] = hull_depth(touched, type(pictures[0].camera)(*matrices)).half().numpy()
        depth.flush()


def _fingerprint(source: Source, views: list[list[int]]) -> str:
    """Cache key: silhouettes, cameras, and which pictures show the same object."""
    digest = hashlib.sha256(f"{VERSION} {views}".encode())
    for index in range(len(source)):
        picture = source.picture(index)
        digest.update(f"{type(picture.camera).__name__} {picture.alpha.shape}".encode())
        digest.update(np.packbits(picture.alpha > 0).tobytes())
        for matrix in picture.camera:
            digest.update(matrix.float().numpy().tobytes())
    return digest.hexdigest()[:16]
