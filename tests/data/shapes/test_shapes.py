"""The procedural shapes: sound signed distances, the promised frame, and variety."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from sdfsrn.data.shapes import ProceduralShape, airplane, car, chair
from sdfsrn.data.shapes.build import SIDE_VIEW, bar, box, disk, plate, ring, rod, turn

GENERATORS = {"airplane": airplane, "car": car, "chair": chair}


def shapes(category, count, seed=0):
    return [ProceduralShape(GENERATORS[category](np.random.default_rng([seed, i]))) for i in range(count)]


@pytest.mark.parametrize("category", GENERATORS)
def test_one_lipschitz(category):
    generator = torch.Generator().manual_seed(0)
    for shape in shapes(category, 20):
        first = torch.rand(1000, 3, generator=generator).sub(0.5).mul(1.5).double()
        second = first + 0.1 * torch.randn(1000, 3, generator=generator)
        assert ((shape.sdf(first) - shape.sdf(second)).abs() <= (first - second).norm(dim=-1) + 1e-6).all()


@pytest.mark.parametrize("category", GENERATORS)
def test_unit_gradient_outside(category):
    for shape in shapes(category, 3):
        points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)).sub(0.5).mul(1.5).double()
        outside = shape.sdf(points) > 0
        torch.testing.assert_close(shape.normal(points[outside]).norm(dim=-1), torch.ones(outside.sum(), dtype=torch.float64))


@pytest.mark.parametrize("category", GENERATORS)
def test_bounding_box_is_centred_with_longest_side_one(category):
    """The half size is exact: nothing beyond it, and the surface touches every face of it."""
    for shape in shapes(category, 8):
        assert shape.half_size.max() == pytest.approx(0.5, abs=1e-6)
        for axis in range(3):
            others = [i for i in range(3) if i != axis]
            grid = torch.zeros(100 * 100, 3)
            lines = [torch.linspace(-float(shape.half_size[i]), float(shape.half_size[i]), 100) for i in others]
            grid[:, others] = torch.cartesian_prod(*lines)
            for side in (-1, 1):
                grid[:, axis] = side * shape.half_size[axis]
                nearest = shape.sdf(grid).min()
                assert -1e-6 < nearest < 0.004


@pytest.mark.parametrize("category", GENERATORS)
def test_connected(category):
    line = (torch.arange(48) + 0.5) / 48 - 0.5
    grid = torch.cartesian_prod(line, line, line)
    for shape in shapes(category, 5, seed=1):
        solid = (shape.sdf(grid) < 0.0145).reshape(48, 48, 48).numpy()
        assert label(solid, np.ones((3, 3, 3)))[1] == 1


@pytest.mark.parametrize("category", GENERATORS)
def test_variety(category):
    many = shapes(category, 50)
    assert len({len(shape.parts) for shape in many}) >= 6
    assert len({tuple(sorted(type(part.solid).__name__ for part in shape.parts)) for shape in many}) >= 12
    assert min(len({tuple(part.color.tolist()) for part in shape.parts}) for shape in many) >= 1
    assert np.mean([len({tuple(part.color.tolist()) for part in shape.parts}) >= 2 for shape in many]) > 0.9


def test_same_generator_same_shape():
    points = torch.randn(100, 3)
    torch.testing.assert_close(shapes("car", 1)[0].sdf(points), shapes("car", 1)[0].sdf(points), rtol=0, atol=0)


def test_chairs_face_minus_z_and_stand_upright():
    """The upper half of a chair is its back, at +z."""
    generator = torch.Generator().manual_seed(0)
    for shape in shapes("chair", 10):
        points = (torch.rand(20_000, 3, generator=generator) - 0.5) * torch.tensor([1, 0.2, 1]) + torch.tensor([0, 0.4, 0])
        assert points[shape.sdf(points) < 0][:, 2].mean() > 0


def test_color_and_distance_of_posed_parts():
    parts = [box("ff0000", (-1, 0, 0), (1, 1, 1)), rod("0000ff", (1, -0.4, 0), (1, 0.4, 0), 0.1)]
    shape = ProceduralShape(parts)
    scale = 0.5 / ((1.1 + 1.5) / 2)
    middle = scale * torch.tensor([[-1 + 0.2, 0.0, 0.0], [1 + 0.2, 0.0, 0.0]])
    assert shape.color(middle).tolist() == [[1, -1, -1], [-1, -1, 1]]
    torch.testing.assert_close(shape.sdf(middle), torch.tensor([-0.5, -0.1]) * scale)


@pytest.mark.parametrize(
    "part",
    [
        bar("ffffff", (0, 0, 0), (0.3, 0.5, 0.2), 0.2, 0.1),
        rod("ffffff", (0, 0, 0), (0.3, 0.5, 0.2), 0.2, 0.1),
        disk("ffffff", (0, 0, 0), (0.3, 0.1, 0.2), 0.4),
        ring("ffffff", (0, 0, 0), (0.3, 0.1, 0.2), 0.4, 0.1),
        plate("ffffff", [(0, 0), (0.5, 0.1), (0.2, 0.6)], 0.1, turn(2, 30) @ SIDE_VIEW),
    ],
)
def test_normalised_solids_fill_their_bounding_box(part):
    shape = ProceduralShape([part])
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300_000, 3, generator=generator) * 1.2 - 0.6
    inside = points[shape.sdf(points) < 0]
    assert (inside.abs() <= shape.half_size + 1e-6).all()
    assert (inside.amax(0) > 0.9 * shape.half_size - 0.02).all()
    assert (inside.amin(0) < -0.9 * shape.half_size + 0.02).all()


def test_a_shape_needs_parts():
    with pytest.raises(ValueError, match="at least one part"):
        ProceduralShape([])
