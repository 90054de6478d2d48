"""What a silhouette's alpha must not have: haze that a background remover left, and specks far from the object."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, find_objects, label, maximum_filter, uniform_filter

from sdfsrn.data.cropping import Box

FAINT = 0.05  # coverage below it may be what a background remover left
DENSE, AROUND = 0.25, 15  # haze covers this share of the background in squares of this side; a thin rod does not
FAR, SMALL = 0.05, 0.02  # a speck's distance, in longer sides of the picture, and its area, in areas of the object
_NEIGHBOURS = np.ones((3, 3), bool)


def drop_faint(alpha: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], float]:
    """Set faint coverage that is not the object to 0; also the share of the pixels that it was found in.

    Alpha below FAINT belongs to the object beside pixels that are covered more, and along lines that lead to such pixels: thin
    rods, which a renderer draws at 1 / 255. Elsewhere, and where it is dense, it is haze: it would make D(u) = 0 all over the
    background, and the lower bound of eq. (4), arXiv:2010.10505, says nothing there.
    """
    faint = (alpha > 0) & (alpha < FAINT)
    stray = _alone(faint, alpha)
    if stray is None or not stray.any():
        return alpha, 0.0
    solid = alpha >= FAINT
    share, background = (uniform_filter(pixels.astype(np.float32), AROUND) for pixels in (faint, ~solid))
    haze = _connected(faint & (share > DENSE * background), stray)
    dropped = faint & ~_connected((alpha > 0) & ~haze, solid)
    return np.where(dropped, np.float32(0), alpha), float(dropped.mean())


def describe_dropped(pictures: int, mean: float) -> str:
    """Say in how many pictures `drop_faint` found something, and in what share of their pixels; "" for none."""
    if pictures == 0:
        return ""
    where = f"in {pictures} pictures, {mean:.2%} of their pixels"
    return f"faint coverage (below {FAINT:.0%}) away from the object was set to 0 {where}"


def touches_border(alpha: Float[np.ndarray, "h w"]) -> bool:
    """Whether the silhouette touches the picture's border, beyond which the object may go on."""
    return bool((alpha[[0, -1]] >= 0.5).any() or (alpha[:, [0, -1]] >= 0.5).any())


def find_specks(alpha: Float[np.ndarray, "h w"]) -> list[Box]:
    """The boxes of small pieces of the silhouette, soft pixels included, that lie far from its largest piece."""
    pieces, count = label(alpha > 0, _NEIGHBOURS)
    if count < 2:
        return []
    area = np.bincount(pieces.flat)[1:]
    distance = distance_transform_edt(pieces != area.argmax() + 1)
    least = max(3.0, FAR * max(alpha.shape))
    boxes = []
    for number, (rows, columns) in enumerate(find_objects(pieces)):
        piece = pieces[rows, columns] == number + 1
        if area[number] < SMALL * area.max() and distance[rows, columns][piece].min() > least:
            boxes.append(Box(columns.start, rows.start, columns.stop, rows.stop))
    return boxes


def _alone(faint: Bool[np.ndarray, "h w"], alpha: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """The faint pixels without a neighbour that is covered more; None if all have one, as at clean edges, which is fast."""
    if 50 * np.count_nonzero(faint) > faint.size:
        return faint & (maximum_filter(alpha, 3) < FAINT)
    row, column = np.nonzero(faint)
    alone = np.ones(len(row), bool)
    for down, right in np.argwhere(_NEIGHBOURS) - 1:
        place = (row + down).clip(0, alpha.shape[0] - 1), (column + right).clip(0, alpha.shape[1] - 1)
        alone &= alpha[place] < FAINT
    if not alone.any():
        return None
    found = np.zeros_like(faint)
    found[row[alone], column[alone]] = True
    return found


def _connected(pixels: Bool[np.ndarray, "h w"], seeds: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The connected pieces of the pixels that hold a seed; diagonal neighbours are connected."""
    pieces, count = label(pixels, _NEIGHBOURS)
    chosen = np.zeros(count + 1, bool)
    chosen[pieces[seeds & pixels]] = True
    return chosen[pieces] & pixels
