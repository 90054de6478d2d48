"""GrabCut by OpenCV: the colours inside a box, cut into object and background along their edges."""

from __future__ import annotations

import importlib.util

import numpy as np
from jaxtyping import Bool, UInt8

from sdfsrn.annotating.silhouettes import BACKGROUND, OBJECT, Corners, Layers, whole_pixels

SIZE = 320  # pixels of the longer side, at most, that are cut
MARGIN = 0.15  # around the box, in its longer sides: what the background's colours are learned from
ITERATIONS = 3


def grabcut_installed() -> bool:
    """Whether OpenCV is there: `pip install 'sdfsrn[annotate]'`."""
    return importlib.util.find_spec("cv2") is not None


def cut(image: UInt8[np.ndarray, "h w 3"], layers: Layers, box: Corners | None) -> Layers:
    """The silhouette that GrabCut finds from a mask as a first guess, with seeds as given.

    The same arguments give the same result. What lies outside the box, or without one outside the mask's own, is background
    unless a seed says otherwise. The cut is made on at most SIZE pixels and enlarged.

    Rother et al., "GrabCut": Interactive Foreground Extraction using Iterated Graph Cuts, SIGGRAPH 2004.
    """
    height, width = layers.mask.shape
    inner = _bounds(layers, box)
    room = MARGIN * max(inner[2] - inner[0], inner[3] - inner[1])
    left, top, right, bottom = whole_pixels(
        (inner[0] - room, inner[1] - room, inner[2] + room, inner[3] + room), (width, height)
    )
    window = (slice(top, bottom), slice(left, right))
    allowed = np.zeros((bottom - top, right - left), bool)
    allowed[inner[1] - top : inner[3] - top, inner[0] - left : inner[2] - left] = True
    inside = _cut_window(image[window], Layers(*(part[window] for part in layers)), allowed)
    mask = np.zeros((height, width), np.uint8)
    mask[window] = np.where(inside, np.uint8(255), np.uint8(0))
    mask[layers.seeds == BACKGROUND], mask[layers.seeds == OBJECT] = 0, 255
    return Layers(mask, layers.seeds)


def _cut_window(image: UInt8[np.ndarray, "h w 3"], layers: Layers, allowed: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Cut the object out of a window of a picture, outside of which nothing is looked at."""
    import cv2

    height, width = allowed.shape
    scale = min(1.0, SIZE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def shrink(where: Bool[np.ndarray, "h w"], least: float) -> Bool[np.ndarray, "h w"]:
        return cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA) > least

    labels = np.where(shrink(layers.mask >= 128, 0.5), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[~shrink(allowed, 0.5)] = cv2.GC_BGD
    labels[shrink(layers.seeds == BACKGROUND, 0)] = cv2.GC_BGD
    labels[shrink(layers.seeds == OBJECT, 0.25)] = cv2.GC_FGD
    if not np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():  # a box around the whole picture: its border is background
        labels[[0, -1]] = labels[:, [0, -1]] = cv2.GC_BGD
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if inside.any() and not inside.all():
        colors = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        cv2.setNumThreads(1)
        cv2.setRNGSeed(0)  # of this thread
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(colors, labels, (0, 0, 0, 0), *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)  # without a rectangle
        inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5


def _bounds(layers: Layers, box: Corners | None) -> tuple[int, int, int, int]:
    """The box in whole pixels, grown around all seeds of the object; without one, that of the mask and the seeds."""
    height, width = layers.mask.shape
    known = layers.seeds == OBJECT
    if box is None:
        known |= layers.mask >= 128
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    corners = [] if box is None else [whole_pixels(box, (width, height))]
    if len(rows) > 0:
        corners.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    lefts, tops, rights, bottoms = zip(*(corners or [(0, 0, width, height)]), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
