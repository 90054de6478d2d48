"""Silhouettes by hand: strokes, polygons and boxes on a mask, and GrabCut, which cuts the colours between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

FINE = 4  # polygons are drawn that many times larger: at their own size, borders would grow by half a pixel
BACKGROUND, OBJECT = 1, 2  # seeds: pixels that a person has decided; 0 elsewhere

Corners = tuple[float, float, float, float]  # left, top, right, bottom, in pixels from the outer corner of the first


class Layers(NamedTuple):
    """A mask, and what of it a person has decided."""

    mask: UInt8[np.ndarray, "h w"]  # 255 inside; between 0 and 255 at soft edges
    seeds: UInt8[np.ndarray, "h w"]  # 0, BACKGROUND or OBJECT

    def decide(self, where: Bool[np.ndarray, "h w"], inside: bool) -> Layers:
        """The layers after a person has said which side some pixels are on."""
        mask = np.where(where, np.uint8(255 * inside), self.mask)
        return Layers(mask, np.where(where, np.uint8(OBJECT if inside else BACKGROUND), self.seeds))


def empty_layers(size: tuple[int, int]) -> Layers:
    """Layers with an empty mask and without seeds; `size` is width and height."""
    blank = np.zeros(size[::-1], np.uint8)
    return Layers(blank, blank)


def stroke(layers: Layers, points: Sequence[Sequence[float]], radius: float, add: bool) -> Layers:
    """Add or remove a line with round ends, `radius` pixels to either side."""
    height, width = layers.mask.shape
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    centers = [(x - 0.5, y - 0.5) for x, y in points]  # Pillow counts from the middle of the first pixel
    if len(centers) > 1:
        draw.line(centers, 1, max(1, round(2 * radius)))
    for x, y in centers:
        draw.ellipse((x - radius + 0.5, y - radius + 0.5, x + radius - 0.5, y + radius - 0.5), 1)
    return layers.decide(np.asarray(canvas), add)


def polygon(layers: Layers, points: Sequence[Sequence[float]], add: bool) -> Layers:
    """Add or remove the pixels that a polygon covers by half."""
    height, width = layers.mask.shape
    corners = np.asarray(points, float)
    left, top, right, bottom = whole_pixels((*corners.min(0), *corners.max(0)), (width, height))
    canvas = Image.new("L", (FINE * (right - left), FINE * (bottom - top)))
    fine = FINE * (corners - (left, top)) - 0.5  # Pillow counts from the middle of the first pixel
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in fine], 255)
    where = np.zeros((height, width), bool)
    where[top:bottom, left:right] = np.asarray(canvas.reduce(FINE)) >= 128
    return layers.decide(where, add)


def rectangle(size: tuple[int, int], box: Corners) -> Layers:
    """The layers whose mask is a box, of which nothing is decided."""
    blank = empty_layers(size)
    left, top, right, bottom = whole_pixels(box, size)
    mask = blank.mask.copy()
    mask[top:bottom, left:right] = 255
    return Layers(mask, blank.seeds)


def fill_holes(layers: Layers) -> Layers:
    """Add what the silhouette surrounds."""
    inside = layers.mask >= 128
    return layers.decide(ndimage.binary_fill_holes(inside) & ~inside, True)


def keep_largest(layers: Layers) -> Layers:
    """Remove all but the largest connected piece."""
    labels, count = ndimage.label(layers.mask >= 128, np.ones((3, 3)))
    if count < 2:
        return layers
    largest = np.bincount(labels.flat)[1:].argmax() + 1
    return layers.decide((labels > 0) & (labels != largest), False)


def whole_pixels(box: Corners, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of a picture of `size` (width, height) that a box touches: at least one."""
    width, height = size
    left, top = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)
