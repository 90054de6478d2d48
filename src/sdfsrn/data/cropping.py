"""A square window of a picture, at any place and of any size, down to parts of a pixel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import sparse

SIDES = ("longer", "height")  # of an object's box, in which the side of a crop is given


class Window(NamedTuple):
    """A square in pixels from the outer corner of the first one; at any fraction of a pixel, and it may leave the picture."""

    left: float
    top: float
    side: float


class Box(NamedTuple):
    """A rectangle of whole pixels by its edges, counted from the outer corner of the first pixel."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def middle(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.right - self.left, self.bottom - self.top)

    def square(self, margin: float = 1.0, of: str = "longer") -> Window:
        """The square about the same middle whose side is `margin` times the `longer` side or the `height`."""
        side = margin * (self.longer if of == "longer" else self.bottom - self.top)
        return Window(self.middle[0] - side / 2, self.middle[1] - side / 2, side)


def object_box(alpha: Float[np.ndarray, "h w"]) -> Box | None:
    """The bounding box of the pixels with an alpha of at least 1 / 2; None if there are none."""
    inside = alpha >= 0.5
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) == 0:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def crop_window(alpha: Float[np.ndarray, "h w"], crop: float | None, of: str = "longer") -> Window:
    """The window around the object, `crop` times the `longer` side or the `height` of its box, or around the picture if None.

    Raises:
        ValueError: no object to crop to.
    """
    box = Box(0, 0, alpha.shape[1], alpha.shape[0]) if crop is None else object_box(alpha)
    if box is None:
        raise ValueError("Expected an object to crop to, but no pixel is covered by half.")
    return box.square() if crop is None else box.square(crop, of)


def crop_square(
    color: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"], left: float, top: float, side: float, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "size size"]]:
    """The window [left, left + side] x [top, top + side] as size x size pixels, and its alpha (float32).

    `left`, `top` and `side` are in pixels, 0 being the outer corner of the first; the window may reach beyond the picture,
    where it is white and not covered. What lay at p now lies at the screen coordinate s = 2 (p - left) / side - 1 exactly.
    A pixel takes the mean over its square (shrinking) or interpolates linearly (enlarging). Colours are weighted by
    alpha, so that none bleeds in from the background; where nothing is covered, the background's own remain.

    Raises:
        ValueError: the side is not positive, or the size is not.
    """
    if not side > 0 or size < 1:
        raise ValueError(f"Expected a window and a size above 0, got {side} and {size}.")
    height, width = alpha.shape
    rows, columns = _weights(top, side, size, height), _weights(left, side, size, width)
    (first_row, rows), (first_column, columns) = _used(rows), _used(columns)
    window = (
        slice(first_row, first_row + rows.shape[1]),
        slice(first_column, first_column + columns.shape[1]),
    )
    color, alpha = color[window].astype(np.float32), alpha[window].astype(np.float32)[..., None]
    share = _pool(np.ones_like(alpha), rows, columns)
    plain = _pool(color, rows, columns) + 255 * (1 - share)
    weight = _pool(alpha, rows, columns)
    weighted = _pool(color * alpha, rows, columns) / np.maximum(weight, 1e-6)
    result = np.where(weight > 1e-3, weighted, plain)
    return result.round().clip(0, 255).astype(np.uint8), weight[..., 0].clip(0, 1)


def _weights(start: float, side: float, size: int, length: int) -> sparse.csr_matrix:
    """Weights (size, length): the share of every old pixel in each new pixel's interval.

    An interval is never narrower than an old pixel: the overlap of two unit intervals is the hat function of linear
    interpolation, so the one formula serves shrinking and enlarging.
    """
    step = side / size
    middle = start + (np.arange(size) + 0.5) * step
    reach = max(step, 1) / 2
    low, high = middle - reach, middle + reach
    old = np.floor(low)[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    overlap = (np.minimum(old + 1, high[:, None]) - np.maximum(old, low[:, None])).clip(0) / (2 * reach)
    # Rounding must not touch a neighbour: a pixel counts as covered if it is covered at all.
    use = (overlap > 1e-6) & (old >= 0) & (old < length)
    row = np.broadcast_to(np.arange(size)[:, None], old.shape)[use]
    return sparse.csr_matrix((overlap[use].astype(np.float32), (row, old[use].astype(np.int64))), (size, length))


def _used(weights: sparse.csr_matrix) -> tuple[int, sparse.csr_matrix]:
    """Drop old pixels of zero weight; return the first index kept and the trimmed weights."""
    if weights.nnz == 0:
        return 0, weights[:, :1]
    first, last = int(weights.indices.min()), int(weights.indices.max())
    return first, weights[:, first : last + 1]


def _pool(values: np.ndarray, rows: sparse.csr_matrix, columns: sparse.csr_matrix) -> np.ndarray:
    """Weighted means of pixels, (h, w, c) to (size, size, c)."""
    height, width, channels = values.shape
    tall = (rows @ values.reshape(height, width * channels)).reshape(-1, width, channels)
    wide = columns @ tall.transpose(1, 0, 2).reshape(width, -1)
    return wide.reshape(columns.shape[0], -1, channels).transpose(1, 0, 2)
