"""Figures of pictures (uint8 RGB on white, (h, w, 3)): coloured depths and masks, strips, animations, galleries."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sdfsrn.runtime.files import write_atomically

RGBImage = UInt8[np.ndarray, "_ _ 3"]  # of any size, so that several in one call may differ

PALETTE = np.array(  # from near to far: matplotlib's viridis reversed, safe for colour-blind readers
    [
        (253, 231, 37),
        (160, 218, 57),
        (74, 193, 109),
        (31, 161, 135),
        (39, 127, 142),
        (54, 92, 141),
        (70, 50, 127),
        (68, 1, 84),
    ]
)
AGREED, MISSED, EXTRA = np.array([60, 160, 90]), np.array([40, 100, 220]), np.array([225, 60, 50])
GAP, HEADING, CAPTION = 6, 14, 12  # pixels; the last two are sizes of letters
INK, PALE_INK = (20, 20, 20), (110, 110, 110)


def to_picture(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image tensor, RGB in [-1, 1], as a picture."""
    return ((image.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def colorize_depth(
    depth: Float[np.ndarray, "h w"], near: float | None = None, far: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Colour a depth map from yellow at `near` to violet at `far`; white where it is not finite.

    Bounds that are not given are the depth's own extremes.
    """
    picture = np.full((*depth.shape, 3), 255, dtype=np.uint8)
    finite = np.isfinite(depth)
    if finite.any():
        near = depth[finite].min() if near is None else near
        far = depth[finite].max() if far is None else far
        position = ((depth[finite] - near) / max(far - near, 1e-12)).clip(0, 1) * (len(PALETTE) - 1)
        stops = np.arange(len(PALETTE))
        picture[finite] = np.stack([np.interp(position, stops, channel) for channel in PALETTE.T], -1).round()
    return picture


def overlay(
    image: UInt8[np.ndarray, "h w 3"], mask_true: Shaped[np.ndarray, "h w"], mask_pred: Shaped[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw two silhouettes over a faded image: green for both, blue for the true one alone, red for the predicted one alone.

    Masks are Booleans or fractions; one half and more is inside.
    """
    true, pred = np.asarray(mask_true) >= 0.5, np.asarray(mask_pred) >= 0.5
    gray = image.mean(-1, keepdims=True) * 0.5 + 127.5
    result = np.broadcast_to(gray, image.shape).copy()
    for region, tint in ((true & pred, AGREED), (true & ~pred, MISSED), (~true & pred, EXTRA)):
        result[region] = 0.4 * gray[region] + 0.6 * tint
    return result.round().astype(np.uint8)


def hstack(pictures: Sequence[RGBImage]) -> Image.Image:
    """Pictures side by side, their tops aligned."""
    if not pictures:
        raise ValueError("Expected at least one picture for a strip, got none")
    canvas = Image.new("RGB", (sum(p.shape[1] for p in pictures), max(p.shape[0] for p in pictures)), "white")
    left = 0
    for picture in pictures:
        canvas.paste(Image.fromarray(picture), (left, 0))
        left += picture.shape[1]
    return canvas


def write_animation(frames: Sequence[RGBImage], path: pathlib.Path, seconds: float = 4.0) -> None:
    """Write frames of one size as an endless animation of `seconds` per cycle, atomically, as .webp or .gif.

    All frames of a GIF share 64 colours, which avoids flicker. Raises ValueError for another suffix or without frames.
    """
    if path.suffix not in (".webp", ".gif") or not frames:
        raise ValueError(f"Expected frames and a path that ends in .webp or .gif, got {len(frames)} frames and {path}")
    images = [Image.fromarray(frame) for frame in frames]
    if path.suffix == ".gif":
        palette = hstack(frames).quantize(64)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    stream = io.BytesIO()
    duration = round(1000 * seconds / len(frames))
    images[0].save(stream, path.suffix[1:], save_all=True, append_images=images[1:], duration=duration, loop=0, quality=80)
    write_atomically(path, stream.getvalue())


def gallery(
    rows: Sequence[Sequence[RGBImage]], headings: Sequence[str], captions: Sequence[str], cell: int = 160
) -> Image.Image:
    """Draw a table of pictures with headings over the columns and a caption under each row.

    Pictures are scaled to fit a square of `cell` pixels; long texts are cut.
    Raises ValueError unless each row has a picture for every heading and there is a caption for every row.
    """
    if len(rows) != len(captions) or any(len(row) != len(headings) for row in rows):
        got = [len(row) for row in rows]
        raise ValueError(f"Expected {len(captions)} captioned rows of {len(headings)} pictures, got rows of {got}")
    fitted = [[_fit(picture, cell) for picture in row] for row in rows]
    heights = [max((picture.height for picture in row), default=0) for row in fitted]
    step, top, below = cell + GAP, HEADING + 3 * GAP, CAPTION + 3 * GAP
    canvas = Image.new("RGB", (GAP + len(headings) * step, top + sum(heights) + len(rows) * below), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        _write(draw, (GAP + column * step + cell / 2, top / 2), heading, HEADING, INK, cell, "mm")
    for row, height, caption in zip(fitted, heights, captions, strict=True):
        for column, picture in enumerate(row):
            left = GAP + column * step + (cell - picture.width) // 2
            canvas.paste(picture, (left, top + (height - picture.height) // 2))
        _write(draw, (GAP, top + height + GAP), caption, CAPTION, PALE_INK, canvas.width - 2 * GAP, "lt")
        top += height + below
        draw.line([(0, top - GAP), (canvas.width, top - GAP)], fill=(225, 225, 225))
    return canvas


def _fit(picture: RGBImage, cell: int) -> Image.Image:
    scale = cell / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _write(draw: ImageDraw.ImageDraw, at: tuple, text: str, size: int, ink: tuple, room: int, anchor: str) -> None:
    """Text at a point of its box named by `anchor` (as in PIL), cut to `room` pixels."""
    font = ImageFont.load_default(size)
    while text and draw.textlength(text, font) > room:
        text = text.removesuffix("...")[:-1] + "..." if text != "..." else ""
    draw.text(at, text, ink, font, anchor=anchor)
