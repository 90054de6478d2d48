from __future__ import annotations

import pytest
import torch

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.models.field import Field, FieldConfig
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.structures import March, Views

B, R, S = 2, 30, 4  # objects, rays, visited points


@pytest.fixture(params=[PerspectiveCamera, OrthographicCamera])
def batch(request: pytest.FixtureRequest) -> tuple[Field, March, Views]:
    shape = Hypernetwork(4, 8, 1, FieldConfig(width=8, depth=2, num_frequencies=1))(torch.randn(B, 4))
    pose = torch.eye(3, 4).repeat(B, 1, 1)
    pose[:, 2, 3] = 2.5
    depth = 1 + torch.rand(B, R, S).cumsum(-1)
    distance = torch.rand(B, R)
    sdf, feature, color = torch.randn(B, R, S), torch.randn(B, R, 8), torch.randn(B, R, 3)
    rendering = March(depth, sdf, depth[..., -1], feature, color, torch.rand(B, R) > 0.5)
    views = Views(
        image=torch.rand(B, 3, 8, 8),
        camera=request.param(pose, torch.eye(3).repeat(B, 1, 1)),
        uv=torch.randn(B, R, 2) / 4,
        color=torch.rand(B, R, 3),
        inside=torch.rand(B, R) > 0.5,
        distance=distance,
        weight=1 / distance,
        inverse_density=0.2 + torch.rand(B, R),
        hull_depth=torch.full_like(distance, torch.inf),
        points=torch.zeros(B, 0, 3),
        index=torch.arange(B),
        mirrored=torch.zeros_like(torch.arange(B), dtype=torch.bool),
    )
    return shape, rendering, views
