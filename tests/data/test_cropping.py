"""Windows against brute force (every pixel cut into 16 x 16 parts) and analytic ramps and discs."""

from __future__ import annotations

import numpy as np
import pytest

from sdfsrn.data.cropping import Box, crop_square, object_box

PARTS = 16


def brute_force(image: np.ndarray, left: float, top: float, side: float, size: int) -> np.ndarray:
    """Means over the window's pixels of samples that each look up the picture's pixel they fall on; 0 beyond it."""
    fine = (np.arange(size * PARTS) + 0.5) / (size * PARTS) * side
    row, column = np.floor(top + fine).astype(int), np.floor(left + fine).astype(int)
    height, width = image.shape
    inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
    samples = image[row.clip(0, height - 1)[:, None], column.clip(0, width - 1)] * inside
    return samples.reshape(size, PARTS, size, PARTS).mean((1, 3))


@pytest.mark.parametrize(
    ("left", "top", "side", "size"), [(0, 0, 32, 8), (-6, 3.5, 40, 10), (5.25, 7.125, 16, 16), (-8, 40, 16, 4)]
)
def test_shrinking_is_the_mean_over_each_pixel(left: float, top: float, side: float, size: int) -> None:
    generator = np.random.default_rng(0)
    color = generator.integers(0, 256, (48, 36, 3), dtype=np.uint8)
    alpha = (generator.random((48, 36)) * (generator.random((48, 36)) > 0.3)).astype(np.float32)
    result, covered = crop_square(color, alpha, left, top, side, size)
    expected = brute_force(alpha, left, top, side, size)
    np.testing.assert_allclose(covered, expected, atol=1e-5)
    assert covered.dtype == np.float32
    with np.errstate(invalid="ignore"):
        weighted = np.stack([brute_force(color[..., c] * alpha, left, top, side, size) / expected for c in range(3)], -1)
    sure = expected > 0.01
    assert np.abs(result[sure] - weighted[sure]).max() <= 0.51


@pytest.mark.parametrize(("left", "top", "side", "size"), [(3.25, 2.5, 20, 7), (3.25, 2.5, 20, 64), (1.1, 2.9, 25, 25)])
def test_a_ramp_stays_a_ramp(left: float, top: float, side: float, size: int) -> None:
    """Shrunk, enlarged and shifted, a colour stays at its place."""
    y, x = np.mgrid[:30, :40] + 0.5
    color = np.stack([6 * x, 8 * y, 0 * x], -1).round().astype(np.uint8)
    result, covered = crop_square(color, np.ones((30, 40), np.float32), left, top, side, size)
    at = (np.arange(size) + 0.5) / size * side
    assert np.abs(result[..., 0] - 6 * (left + at)).max() <= 1
    assert np.abs(result[..., 1] - 8 * (top + at)[:, None]).max() <= 1
    np.testing.assert_allclose(covered, 1, atol=1e-5)


def test_a_disc_keeps_its_area_and_middle() -> None:
    y, x = np.mgrid[:200, :300] + 0.5
    alpha = (np.hypot(x - 171.3, y - 88.8) < 40).astype(np.float32)
    left, top, side, size = 113.7, 20.9, 111.3, 48
    _, covered = crop_square(np.zeros((200, 300, 3), np.uint8), alpha, left, top, side, size)
    at = (np.arange(size) + 0.5) / size * side
    assert covered.sum() * (side / size) ** 2 == pytest.approx(alpha.sum(), rel=1e-5)
    middle = [(covered.sum(0) @ at) / covered.sum() + left, (covered.sum(1) @ at) / covered.sum() + top]
    true = [(alpha * x).sum() / alpha.sum(), (alpha * y).sum() / alpha.sum()]
    assert middle == pytest.approx(true, abs=0.05)


def test_the_same_window_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    color = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    alpha = generator.integers(0, 256, (24, 24)).astype(np.float32) / 255
    result, covered = crop_square(color, alpha, 0, 0, 24, 24)
    assert np.array_equal(result, color)
    np.testing.assert_allclose(covered, alpha, atol=1e-7)


def test_a_neighbour_is_not_touched_by_rounding() -> None:
    """D(u) takes every alpha above 0 for the object."""
    alpha = np.zeros((30, 30), np.float32)
    alpha[:, 10:20] = 1
    for size in range(1, 60):
        side = 2.1 * size  # the window ends where the object begins, but for rounding
        _, covered = crop_square(np.zeros((30, 30, 3), np.uint8), alpha, 10 - 0.7 * 3 * size, 0, side, size)
        assert not covered.any()


def test_colours_are_the_objects_then_the_backgrounds_and_white_beyond() -> None:
    color = np.zeros((8, 8, 3), np.uint8)
    color[..., 1] = 200
    color[:, 4:] = [180, 0, 0]
    alpha = np.zeros((8, 8), np.float32)
    alpha[:, 4:] = 1
    result, _ = crop_square(color, alpha, -5, -5, 18, 6)
    assert result[2, 2].tolist() == [0, 200, 0]  # [1, 4): background
    assert result[2, 3].tolist() == [180, 0, 0]  # [4, 7)
    assert result[2, 0].tolist() == [255, 255, 255]
    shifted, part = crop_square(color, alpha, -4, -5, 18, 6)
    assert shifted[2, 2].tolist() == [180, 0, 0]  # [2, 5): a third of it is the object
    assert part[2, 2] == pytest.approx(1 / 3, abs=1e-6)
    outside, nothing = crop_square(color, alpha, 100, 0, 5, 4)
    assert (outside == 255).all()
    assert not nothing.any()


def test_boxes() -> None:
    alpha = np.zeros((20, 30), np.float32)
    assert object_box(alpha) is None
    alpha[3:6, 10:21] = 0.5
    alpha[10, 2] = 0.49
    box = object_box(alpha)
    assert box == (10, 3, 21, 6)
    assert box.middle == (15.5, 4.5)
    assert box.square(2) == (4.5, -6.5, 22)
    assert Box(0, 0, 30, 20).square() == (0, -5, 30)


@pytest.mark.parametrize(("side", "size"), [(0, 4), (-1, 4), (float("nan"), 4), (4, 0)])
def test_nonsense(side: float, size: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        crop_square(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32), 0, 0, side, size)
