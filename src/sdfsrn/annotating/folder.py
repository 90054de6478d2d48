"""The pictures of a folder: listed, read upright and at most 2,000 pixels wide, never from outside the folder."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pathlib
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sdfsrn.data import images
from sdfsrn.data.images import DEEP, describe_skipped, is_picture, open_image, read_alpha, read_color
from sdfsrn.runtime.files import reason

SHOWN = 2000  # pixels of the longer side, at most, that the page shows
THUMBNAIL = 160
DRAFTS, MASKS = ".annotations", "masks"  # folders that the page writes to
TABLES = ("cameras", "cameras_before")  # names of the tables beside the pictures, without suffix
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap width and height

log = logging.getLogger(__name__)


class Photo(NamedTuple):
    """One picture of the folder."""

    name: str  # path below the root, with slashes
    original: tuple[int, int]  # width and height when upright
    size: tuple[int, int]  # width and height as shown
    error: str | None = None  # why it cannot be annotated


def picture_names(root: pathlib.Path) -> list[str]:
    """Paths of all pictures below `root`, in order, but of hidden folders, of `masks/`, and links to the outside.

    Raises:
        ValueError: no folder, or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"Expected pictures in {root}, which does not exist: set data.root to the folder that holds them.")
    names = []
    for folder, folders, files in os.walk(root):
        below = pathlib.Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not name.startswith(".") and (below / name).as_posix() != MASKS]
        names += [(below / name).as_posix() for name in files if not name.startswith(".")]
    skipped = describe_skipped(pathlib.Path(name) for name in names if pathlib.Path(name).stem not in TABLES)
    names = [name for name in sorted(names) if is_picture(name)]
    inside = [name for name in names if is_inside(root, root / name)]
    if len(inside) < len(names):
        log.warning("Left out %d pictures that are links to the outside of %s.", len(names) - len(inside), root)
    if not inside:
        found = f"only {skipped}" if skipped else "none"
        raise ValueError(f"Expected pictures ({', '.join(sorted(images.PICTURE_SUFFIXES))}) in {root}, found {found}.")
    if skipped:
        log.warning("Left out files that are no pictures: %s.", skipped)
    return inside


def open_photo(root: pathlib.Path, name: str) -> Photo:
    """What the head of a picture's file says; a broken one has an `error`."""
    shown = name.encode(errors="replace").decode()
    if shown != name or not name.isprintable() or name != name.strip():
        return Photo(shown, (1, 1), (1, 1), f"Expected a name that fits into a table, got {shown!r}: rename it.")
    try:
        with Image.open(root / name) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION) in TURNED:
                width, height = height, width
    except Exception as error:  # whatever a decoder makes of broken bytes
        return Photo(name, (1, 1), (1, 1), f"Could not read a picture from {name}: {reason(error)}.")
    return Photo(name, (width, height), shown_size(width, height))


def is_inside(root: pathlib.Path, path: pathlib.Path) -> bool:
    """Whether a path lies below the root after all links are followed."""
    return path.resolve().is_relative_to(root.resolve())


def shown_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a picture is shown.

    >>> shown_size(4000, 3000), shown_size(30, 20)
    ((2000, 1500), (30, 20))
    """
    scale = min(1.0, SHOWN / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def read_shown(root: pathlib.Path, photo: Photo) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a picture as shown, over white where it is transparent.

    Raises:
        ValueError: it cannot be decoded.
    """
    return _fit(Image.fromarray(_over_white(open_image(root / photo.name), photo.name)), photo.size)


def read_mask(root: pathlib.Path, photo: Photo, path: str | None) -> UInt8[np.ndarray, "h w"]:
    """The mask at a path below the root, or, of None, the alpha channel; as shown.

    Raises:
        ValueError: it cannot be decoded, is no mask, leads to the outside, or is of another size than the picture.
    """
    if path is not None and not is_inside(root, root / path):
        raise ValueError(f"Expected a mask below the folder, got {path}.")
    name = root / (path or photo.name)
    image = open_image(name)
    if image.size != photo.original:
        raise ValueError(f"Expected a mask of the picture's size {photo.original}, got {image.size} in {name}.")
    found = read_alpha(image) if path is None else images.read_mask(image, str(name))
    return _fit(Image.fromarray(np.rint(255 * found.alpha).astype(np.uint8)), photo.size)


def has_alpha(root: pathlib.Path, photo: Photo) -> bool:
    """Whether the picture has an alpha channel that tells an object from its background."""
    with Image.open(root / photo.name) as image:
        if not images.has_alpha(image):
            return False
    alpha = read_alpha(open_image(root / photo.name)).alpha
    return bool(alpha.min() < 0.5 <= alpha.max())


def thumbnail(root: pathlib.Path, photo: Photo) -> bytes:
    """A JPEG of at most THUMBNAIL pixels."""
    with Image.open(root / photo.name) as image:
        image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
        if not image.mode.startswith(DEEP):
            image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.BOX)
        small = Image.fromarray(_over_white(open_image(image), photo.name))
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return jpeg_bytes(np.asarray(small), 80)


def jpeg_bytes(image: UInt8[np.ndarray, "h w 3"], quality: int = 92) -> bytes:
    """A picture as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def lock_folder(root: pathlib.Path) -> IO[bytes]:
    """Reserve the folder for this process: as long as the returned file is open, and no longer than the process lives.

    Raises:
        ValueError: another process has it, it cannot be written, or what the page writes to leads to the outside.
    """
    for name in (DRAFTS, MASKS, "cameras.csv"):
        if not is_inside(root, root / name):
            raise ValueError(f"Expected {root / name} below the folder, got a link to the outside.")
    try:
        (root / DRAFTS).mkdir(exist_ok=True)
        file = (root / DRAFTS / "lock").open("wb")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"Expected to be alone in {root}, but another annotation page has it open: stop that first.") from None
    except OSError as error:
        raise ValueError(f"Could not write to {root}: {error.strerror}.") from error
    return file


def _over_white(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w 3"]:
    if images.has_alpha(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return read_color(image, name)


def _fit(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BOX, reducing_gap=None))
