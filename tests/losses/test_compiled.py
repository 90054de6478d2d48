"""Compiled loss terms have the gradients of eager ones; in a process of its own, without checked annotations.

A compiled loss alone proves nothing: the compiler of torch 2.11 gave the eikonal term its right value and a gradient of 0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

TERMS = ("silhouette", "ray_surface", "ray_free", "color", "eikonal")
SCRIPT = """
import json, sys
import torch
import torch._inductor.config
from torch._dynamo.utils import counters
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.losses import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss
from sdfsrn.models import FieldConfig, Hypernetwork, LSTMRayMarcher
from sdfsrn.structures import Views

B, R, STEPS = 2, 12, 2
torch.manual_seed(0)
torch._inductor.config.fallback_random = True
network = Hypernetwork(4, 8, 1, FieldConfig(width=8, depth=3, num_frequencies=2))
marcher = LSTMRayMarcher(8, 1.5, num_steps=2, num_bisections=2)
latent, parameters = torch.randn(B, 4), [*network.parameters(), *marcher.parameters()]
pose = torch.eye(3, 4).repeat(B, 1, 1)
pose[:, 2, 3] = 2.5

def views():
    distance = 0.1 + torch.rand(B, R)
    return Views(
        image=torch.rand(B, 3, 8, 8), camera=PerspectiveCamera(pose, torch.eye(3).repeat(B, 1, 1)), uv=torch.randn(B, R, 2) / 4,
        color=torch.rand(B, R, 3), inside=torch.rand(B, R) > 0.5, distance=distance, weight=1 / distance,
        inverse_density=0.2 + torch.rand(B, R), hull_depth=torch.full_like(distance, torch.inf), points=torch.zeros(B, 0, 3),
        index=torch.arange(B), mirrored=torch.zeros(B, dtype=torch.bool))

def loss_and_gradients(term, batch, seed):
    field = network(latent)
    march = marcher(field, batch.camera.rays(batch.uv))
    torch.manual_seed(seed)
    loss = term(field, march, batch)
    return [loss.detach(), *torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)]

terms = {
    "silhouette": SilhouetteLoss(1.0, 4.0), "ray_surface": RaySurfaceLoss(), "ray_free": RayFreeLoss(), "color": ColorLoss(),
    "eikonal": EikonalLoss(num_points=30),
}
result, batches = {}, [views() for _ in range(STEPS)]
for name in sys.argv[2:]:
    term = terms[name]
    eager = [loss_and_gradients(term, batch, seed) for seed, batch in enumerate(batches)]
    counters.clear()
    term.compile(backend=sys.argv[1], fullgraph=True, dynamic=False)
    compiled = [loss_and_gradients(term, batch, seed) for seed, batch in enumerate(batches)]
    pairs = [(a, b) for pair in zip(compiled, eager) for a, b in zip(*pair)]
    scale = max(float(b.norm()) for _, b in pairs)
    result[name] = {"error": max(float((a - b).norm()) for a, b in pairs) / scale, "graphs": counters["stats"]["unique_graphs"],
                    "gradient": max(float(b.norm()) for values in eager for b in values[1:])}
print(json.dumps(result))
"""


def measured(backend: str, *terms: str) -> dict[str, dict[str, float]]:
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, backend, *terms]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    assert set(found) == set(terms)
    return found


def test_each_term_is_one_graph_with_the_gradients_of_eager_code() -> None:
    """Traced, with its backward, and run by the same operations; one graph for the fields of all steps."""
    for name, values in measured("aot_eager", *TERMS).items():
        assert values["error"] < 1e-6, name
        assert values["graphs"] == 1, name
        assert values["gradient"] > 1e-4, name


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="NOTHING COMPILED: THERE IS NO C++ COMPILER")
def test_inductor_gives_each_term_the_gradients_of_eager_code() -> None:
    for name, values in measured("inductor", *TERMS).items():
        assert values["error"] < 1e-4, name
