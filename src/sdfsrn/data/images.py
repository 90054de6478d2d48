"""Pictures and masks of any kind: files, PIL images, arrays and tensors, of any bit depth. All of them are read here."""

from __future__ import annotations

import collections
import importlib.util
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from sdfsrn.data.alpha import drop_faint, touches_border
from sdfsrn.runtime.files import reason

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".pgm", ".ppm"}
HEIF_SUFFIXES = {".heic", ".heif"}
HEIF_REMEDY = "pip install 'sdfsrn[heic]', or save as JPEG"
DRAWN = "sdfsrn-drawn"  # text in a PNG whose alpha this package has drawn: faint coverage in it is the object
NOISE = 0.15  # of a mask kept as JPEG: alpha below it is 0
DEEP = ("I", "F")  # how the names of modes begin whose values may go beyond 255

if importlib.util.find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    PICTURE_SUFFIXES |= HEIF_SUFFIXES

ImageLike = str | pathlib.Path | Image.Image | np.ndarray | Tensor


class Silhouette(NamedTuple):
    """The alpha of a picture."""

    alpha: Float[np.ndarray, "h w"]  # float32 in [0, 1]
    dropped: float = 0.0  # share of the pixels whose faint coverage was set to 0, see `drop_faint`


class Cutout(NamedTuple):
    """A whole picture of an object."""

    color: UInt8[np.ndarray, "h w 3"]
    alpha: Float[np.ndarray, "h w"]
    dropped: float = 0.0  # as in `Silhouette`
    cut: bool = False  # whether the silhouette touches the picture's border


def read_cutout(image: ImageLike, mask: ImageLike | None = None) -> Cutout:
    """Colours and alpha of a picture and its mask, upright; without a mask, of the picture's alpha channel.

    Raises:
        ValueError: an unreadable picture or mask, no mask, one of another size, or one that is empty or covers everything.
    """
    opened, name = open_image(image), name_of(image, "the picture")
    if mask is not None:
        opened_mask, mask_name = open_image(mask), name_of(mask, "the mask")
        if opened_mask.size != opened.size:
            sizes = f"{opened.size} in {name} and {opened_mask.size} in {mask_name}"
            raise ValueError(f"Expected an image and a mask of one size (width, height), got {sizes}.")
        found, where = read_mask(opened_mask, mask_name), f"{mask_name} ({_describe(opened_mask)})"
    elif has_alpha(opened):
        found, where = read_alpha(opened), f"the alpha channel of {name}"
    else:
        raise ValueError(f"Expected an alpha channel in {name} or a mask: give mask=FILE, bright where the object is.")
    covered = np.count_nonzero(found.alpha >= 0.5) / found.alpha.size
    if covered == 0:
        raise ValueError(f"Expected an object, but the mask of {name} is empty in {where}.")
    if covered > 0.999:
        raise ValueError(
            f"Expected background around the object, but the mask of {name} covers the whole picture in {where}: "
            "remove the background, or give a mask."
        )
    return Cutout(read_color(opened, name), *found, touches_border(found.alpha))


def open_image(image: ImageLike, upright: bool = True) -> Image.Image:
    """A picture of any kind as PIL image, decoded; `upright` turns it as its EXIF orientation says.

    Arrays and tensors are (h, w), (h, w, c) or (c, h, w) with 1, 3 or 4 channels, of any type: see `unit_range`.

    Raises:
        ValueError: no such file, one that cannot be decoded, or an array of another shape or range.
    """
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image) if upright else image
    if isinstance(image, Tensor):
        image = (image.float() if image.dtype == torch.bfloat16 else image).detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        return _from_array(image)
    path = pathlib.Path(image)
    try:
        with Image.open(path) as opened:
            opened.load()
            if upright:
                ImageOps.exif_transpose(opened, in_place=True)
            return opened
    except Exception as error:  # whatever a decoder makes of broken bytes
        remedy = HEIF_REMEDY if path.suffix.lower() in HEIF_SUFFIXES - PICTURE_SUFFIXES else reason(error)
        raise ValueError(f"Could not read a picture from {path}: {remedy}.") from error


def read_color(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """RGB; grey values of more than 8 bits are scaled by their range. Raises ValueError where that cannot be told."""
    if not image.mode.startswith(DEEP):
        return np.array(image.convert("RGB"))
    try:
        gray = np.rint(255 * unit_range(np.asarray(image))).astype(np.uint8)
    except ValueError as error:
        raise ValueError(
            f"Expected a picture of 0 to 255, 0 to 65535 or 0.0 to 1.0, got mode {image.mode}, {error}: {name}."
        ) from error
    return np.repeat(gray[..., None], 3, -1)


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel, or a colour that stands for transparency."""
    return image.has_transparency_data and not image.mode.startswith(DEEP)


def read_alpha(image: Image.Image, drawn: bool = False) -> Silhouette:
    """The alpha channel of a picture that has one; `drawn` as in `read_mask`."""
    band = (image if image.mode in ("RGBA", "LA") else image.convert("RGBA")).getchannel("A")
    return _without_haze(np.asarray(band, np.float32) / 255, image, drawn)


def read_mask(image: Image.Image, name: str, drawn: bool = False) -> Silhouette:
    """The alpha that a mask stands for.

    An alpha channel that varies is the mask; indices of a coloured palette and numbers of two values, one of them 0, are
    labels, 0 outside; everything else is bright where the object is, relative to its range. `drawn`: a renderer made it, so
    that no coverage is too faint.

    Raises:
        ValueError: a mask that says neither.
    """
    if has_alpha(image):
        alpha = read_alpha(image, drawn)
        if alpha.alpha.min() < 0.5 and alpha.alpha.max() > alpha.alpha.min():
            return alpha
    try:
        values = _mask_values(_labels(image) if image.mode == "P" else _gray(image))
    except ValueError as error:
        raise ValueError(
            "Expected a mask with 0 outside and one value inside, or bright inside (up to 255, 65535 or 1.0), or with an alpha "
            f"channel, got mode {image.mode}, {error}: {name}."
        ) from error
    return _without_haze(values, image, drawn)


def unit_range(values: Shaped[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Values as float32 in [0, 1]: bytes and integers up to 255 over 255, up to 65535 over 65535, floats up to 1 as they are.

    Floats beyond 1 are taken for integers if they reach 16. Raises ValueError, with the range, for others, negative ones, NaN.

    >>> unit_range(np.array([0, 257, 65535], np.uint16)).tolist(), unit_range(np.array([0.0, 51.0])).tolist()
    ([0.0, 0.003921568859368563, 1.0], [0.0, 0.20000000298023224])
    """
    if values.dtype in (np.bool_, np.uint8):
        return values.astype(np.float32) / (1 if values.dtype == np.bool_ else 255)
    low, high, exact = values.min(), values.max(), values.dtype.kind in "iu"
    if not exact and low >= -1e-3 and high <= 1 + 1e-3:
        return values.astype(np.float32).clip(0, 1)
    if low >= 0 and high <= 65535 and (exact or high >= 16):
        return values.astype(np.float32) / (255 if high <= 255 else 65535)
    raise ValueError(f"values {low:g} to {high:g}")


def name_of(image: ImageLike, what: str) -> str:
    """The path of a picture, for messages; `what` it is, if it has none."""
    return str(image) if isinstance(image, str | pathlib.Path) else getattr(image, "filename", "") or what


def is_picture(path: str | pathlib.Path) -> bool:
    """Whether a file's suffix is that of a picture that can be read here."""
    return pathlib.Path(path).suffix.lower() in PICTURE_SUFFIXES


def describe_skipped(paths: Iterable[pathlib.Path]) -> str:
    """Count the files that are no pictures, by suffix, with the remedy where there is one; "" if there are none.

    >>> describe_skipped(map(pathlib.Path, ["a.txt", "b.TXT", "c.png", "Thumbs.db"]))
    '2 .txt, 1 .db'
    """
    skipped = [path for path in paths if not (is_picture(path) or path.name.startswith("."))]
    counts = collections.Counter(path.suffix.lower() for path in skipped)
    return ", ".join(
        f"{count} {suffix or 'without a suffix'}" + (f" ({HEIF_REMEDY})" if suffix in HEIF_SUFFIXES else "")
        for suffix, count in counts.most_common()
    )


def _mask_values(values: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    high = values.max()
    if high == 255 and values.dtype == np.uint8:
        return values.astype(np.float32) / 255
    low = values.min()
    if 0 in (low, high) and ((values == low) | (values == high)).all():
        return (values != 0).astype(np.float32)
    alpha = unit_range(values)
    if alpha.max() < 0.5:
        raise ValueError(f"values {low:g} to {high:g}")
    return alpha


def _labels(image: Image.Image) -> np.ndarray:
    """Palette indices as labels; the brightness of a palette of greys."""
    index = np.asarray(image)
    used = np.flatnonzero(np.bincount(index.reshape(-1), minlength=256))
    palette = np.zeros((256, 3), np.uint8)
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colors)] = colors
    grays = (palette[used] == palette[used, :1]).all() and palette[used].max() >= 128
    return palette[index, 0] if grays else index != 0


def _gray(image: Image.Image) -> np.ndarray:
    """One value per pixel: its brightness, or that of its brightest channel where all are dark, as pure blue is."""
    if image.mode in ("1", "L") or image.mode.startswith(DEEP):
        return np.asarray(image)
    gray = np.asarray(image.convert("L"))
    return gray if gray.max() >= 128 else np.asarray(image.convert("RGB")).max(-1)


def _without_haze(alpha: np.ndarray, image: Image.Image, drawn: bool) -> Silhouette:
    if drawn or DRAWN in image.info:
        return Silhouette(alpha)
    if image.format in ("JPEG", "MPO"):
        alpha = np.where(alpha < NOISE, np.float32(0), alpha)
    return Silhouette(*drop_faint(alpha))


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if (
        array.dtype.kind not in "biuf"
        or array.size == 0
        or array.ndim not in (2, 3)
        or array.shape[2:] not in ((), (1,), (3,), (4,))
    ):
        raise ValueError(
            f"Expected numbers of shape (h, w) or (h, w, c) with 1, 3 or 4 channels, got {array.dtype} of shape {array.shape}."
        )
    array = array[..., 0] if array.shape[2:] == (1,) else array
    if array.ndim == 3:
        parts = [np.rint(255 * _in_range(part)).astype(np.uint8) for part in (array[..., :3], array[..., 3:]) if part.size]
        return Image.fromarray(array if array.dtype == np.uint8 else np.dstack(parts))
    if array.dtype in (np.bool_, np.uint8):
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype.kind == "f":
        return Image.fromarray(array.astype(np.float32))
    return Image.fromarray(array.clip(-(2**31), 2**31 - 1).astype(np.int32))


def _in_range(values: np.ndarray) -> np.ndarray:
    try:
        return unit_range(values)
    except ValueError as error:
        raise ValueError(f"Expected numbers of 0 to 255, 0 to 65535 or 0.0 to 1.0 in a picture, got {error}.") from error


def _describe(image: Image.Image) -> str:
    return f"mode {image.mode}, values {' to '.join(f'{value:g}' for value in _extrema(image))}"


def _extrema(image: Image.Image) -> tuple[float, float]:
    values = np.asarray(image)
    return float(values.min()), float(values.max())
