from __future__ import annotations

import math

import pytest
import torch

from sdfsrn.functional.encoding import encoding_vjp, positional_encoding

SETTINGS = pytest.mark.parametrize(("num", "scale"), [(0, 1.0), (1, 1.0), (6, 1.0), (5, math.pi)])


@SETTINGS
def test_channels_are_the_point_then_cosines_and_sines_of_each_frequency(num: int, scale: float) -> None:
    points = torch.randn(4, 3, dtype=torch.double)
    encoding = positional_encoding(points, num, scale)
    for point, channels in zip(points.tolist(), encoding.tolist(), strict=True):
        expected = list(point)
        for k in range(num):
            expected += [math.cos(scale * 2**k * p) for p in point]
            expected += [math.sin(scale * 2**k * p) for p in point]
        assert channels == pytest.approx(expected, abs=1e-12)


@SETTINGS
def test_vjp_is_autograds(num: int, scale: float) -> None:
    points = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    encoding = positional_encoding(points, num, scale)
    cotangent = torch.randn_like(encoding)
    (expected,) = torch.autograd.grad(encoding, points, cotangent)
    torch.testing.assert_close(encoding_vjp(encoding.detach(), cotangent, num, scale), expected, rtol=1e-12, atol=1e-12)


def test_vjp_is_differentiable_in_both_arguments() -> None:
    points = torch.randn(3, 3, dtype=torch.double, requires_grad=True)
    cotangent = torch.randn(3, 15, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, v: encoding_vjp(positional_encoding(x, 2), v, 2), (points, cotangent))
