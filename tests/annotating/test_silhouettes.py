"""Strokes, polygons, holes and pieces against masks made from distances; GrabCut on photographs of the built-in chairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from photographs import iou, photograph
from sdfsrn.annotating.grabcut import cut
from sdfsrn.annotating.silhouettes import (
    BACKGROUND,
    OBJECT,
    Layers,
    empty_layers,
    fill_holes,
    keep_largest,
    polygon,
    rectangle,
    stroke,
)
from sdfsrn.data import SyntheticSource

SIZE = (120, 90)
Y, X = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5


def distance_to_line(points: list[list[float]]) -> np.ndarray:
    """Distances of all pixel centres to a polyline."""
    nearest = np.full(X.shape, np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        along = np.clip(((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(X - x0 - along * (x1 - x0), Y - y0 - along * (y1 - y0)))
    return nearest


@pytest.mark.parametrize("radius", [3.0, 7.5])
@pytest.mark.parametrize("points", [[[40, 30]], [[20.5, 20], [80, 30.5], [90, 70]], [[-30, 40], [150, 45]]])
def test_a_stroke_covers_what_is_near_its_line(points: list[list[float]], radius: float) -> None:
    mask = stroke(empty_layers(SIZE), points, radius, True).mask >= 128
    distance = distance_to_line(points)
    assert mask[distance < radius - 1].all()
    assert not mask[distance > radius + 1].any()


def test_strokes_remove_as_they_add_and_are_remembered() -> None:
    layers = stroke(empty_layers(SIZE), [[20, 40], [100, 40]], 10, True)
    assert (layers.seeds == np.where(layers.mask >= 128, OBJECT, 0)).all()
    less = stroke(layers, [[60, 40]], 10, False)
    assert (less.seeds[(less.mask < layers.mask)] == BACKGROUND).all()
    assert less.mask[40, 60] == 0
    again = stroke(less, [[60, 40]], 10, True)
    assert np.array_equal(again.mask, layers.mask)
    assert layers.mask[40, 60] == 255  # no layer is changed in place


def test_soft_edges_stay_where_nobody_paints() -> None:
    soft = Layers((np.clip(30 - np.hypot(X - 60, Y - 45), 0, 1) * 255).astype(np.uint8), empty_layers(SIZE).seeds)
    painted = stroke(soft, [[60, 45]], 5, False)
    assert ((soft.mask > 0) & (soft.mask < 255)).sum() > 100
    assert np.array_equal(painted.mask[painted.seeds == 0], soft.mask[painted.seeds == 0])


def test_a_polygon_covers_its_inside() -> None:
    mask = polygon(empty_layers(SIZE), [[10, 10], [90, 20], [50, 80]], True).mask >= 128
    sides = [(80, 10, 10, 10), (-40, 60, 90, 20), (-40, -70, 50, 80)]
    depth = np.min([((Y - y0) * dx - (X - x0) * dy) / np.hypot(dx, dy) for dx, dy, x0, y0 in sides], 0)
    assert mask[depth > 1].all()
    assert not mask[depth < -1].any()


def test_holes_and_small_pieces() -> None:
    ring = polygon(empty_layers(SIZE), [[10, 10], [70, 10], [70, 70], [10, 70]], True)
    ring = polygon(ring, [[30, 30], [50, 30], [50, 50], [30, 50]], False)
    with_crumb = stroke(ring, [[100, 80]], 4, True)
    filled = fill_holes(with_crumb)
    assert filled.mask[40, 40] == 255
    assert filled.seeds[40, 40] == OBJECT
    assert filled.mask[80, 100] == 255
    alone = keep_largest(with_crumb)
    assert np.array_equal(alone.mask, ring.mask)
    assert alone.seeds[80, 100] == BACKGROUND
    assert np.array_equal(keep_largest(ring).mask, ring.mask)
    assert not keep_largest(empty_layers(SIZE)).mask.any()


def automatic_stroke(found: np.ndarray, truth: np.ndarray, brush: float) -> tuple[list[list[float]], float, bool]:
    """A stroke through the middle of the largest piece that is wrong, as a person would paint it."""
    best: tuple[int, np.ndarray, float, bool] = (0, np.zeros((1, 2)), 1.0, True)
    for add, wrong in ((True, truth & ~found), (False, found & ~truth)):
        depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
        labels, count = ndimage.label(depth >= min(brush, 0.6 * depth.max()))
        if count > 0 and depth.max() > 0:
            largest = np.bincount(labels.flat)[1:].argmax() + 1
            area = int((wrong & ndimage.binary_dilation(labels == largest, iterations=int(brush))).sum())
            if area > best[0]:
                best = (area, np.argwhere(labels == largest)[:, ::-1] + 0.5, max(1.0, min(brush, depth.max())), add)
    _, points, radius, add = best
    along = (points - points.mean(0)) @ np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    parts = [points[(along >= low) & (along <= high)] for low, high in zip(*_bins(along), strict=True)]
    line = [part[np.abs(part - part.mean(0)).sum(1).argmin()].tolist() for part in parts if len(part) > 0]
    return line, radius, add


def _bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(values.min(), values.max() + 1e-6, 13)
    return edges[:-1], edges[1:]


@pytest.fixture(scope="module")
def chairs(tmp_path_factory: pytest.TempPathFactory) -> SyntheticSource:
    return SyntheticSource("chair", "test", 4, image_size=128, cache=str(tmp_path_factory.mktemp("chairs")))


def test_grabcut_and_a_few_strokes_find_chairs_before_textures(chairs: SyntheticSource) -> None:
    pytest.importorskip("cv2")
    size = 320
    for index in range(len(chairs)):
        image, truth = photograph(np.random.default_rng(index), chairs.picture(index), size)
        rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
        box = (columns[0] - 3.0, rows[0] - 3.0, columns[-1] + 4.0, rows[-1] + 4.0)
        layers = cut(image, rectangle((size, size), box), box)
        strokes = 0
        while iou(layers.mask >= 128, truth) <= 0.95:
            strokes += 1
            assert strokes <= 3
            points, radius, add = automatic_stroke(layers.mask >= 128, truth, 0.012 * size)
            layers = cut(image, stroke(layers, points, radius, add), box)


def test_grabcut_keeps_every_seed_and_gives_the_same_again(chairs: SyntheticSource) -> None:
    pytest.importorskip("cv2")
    image, _ = photograph(np.random.default_rng(0), chairs.picture(0), 500)  # is shrunk
    box = (0.0, 0.0, 500.0, 500.0)
    guess = stroke(stroke(rectangle((500, 500), box), [[10, 10], [490, 15]], 4, True), [[250, 250]], 12, False)
    once, again = cut(image, guess, box), cut(image, guess, box)
    assert np.array_equal(once.mask, again.mask)
    assert (once.mask[guess.seeds == OBJECT] == 255).all()
    assert (once.mask[guess.seeds == BACKGROUND] == 0).all()
    assert set(np.unique(once.mask)) <= {0, 255}
    assert np.array_equal(once.seeds, guess.seeds)


def test_outside_of_the_box_is_background_but_for_seeds(chairs: SyntheticSource) -> None:
    pytest.importorskip("cv2")
    image, truth = photograph(np.random.default_rng(1), chairs.picture(1), 200)
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    middle = float(rows[0] + rows[-1]) / 2
    box = (float(columns[0]) - 2, float(rows[0]) - 2, float(columns[-1]) + 3, middle)
    mask = cut(image, rectangle((200, 200), box), box).mask
    assert not mask[int(np.ceil(middle)) :].any()
    seeded = stroke(rectangle((200, 200), box), [[(columns[0] + columns[-1]) / 2, rows[-1] - 2]], 2, True)
    assert cut(image, seeded, box).mask[int(np.ceil(middle)) :].any()


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 1.0, 1.0), (-5.0, -5.0, 900.0, 900.0), (50.0, 50.0, 50.0, 50.0), (899, 10, 990, 12)]
)
def test_odd_boxes_are_cut_too(chairs: SyntheticSource, box: tuple[float, float, float, float]) -> None:
    pytest.importorskip("cv2")
    image = np.full((90, 120, 3), 128, np.uint8)
    assert cut(image, rectangle((120, 90), box), box).mask.shape == (90, 120)
    assert cut(image, empty_layers((120, 90)), None).mask.sum() == 0
