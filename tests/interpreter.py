"""Kernels in Triton's interpreter, on the CPU; in a process without checked annotations, which would check them as well."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

CASES: dict[str, Any] = {  # of fields: their settings, objects, points
    "paper": [{"width": 16}, 2, 40],
    "authors": [{"width": 16, "num_frequencies": 5, "frequency_scale": 3.14159}, 1, 20],
    "one point, odd width": [{"width": 11, "depth": 3, "num_frequencies": 2}, 3, 1],
    "bare coordinates": [{"width": 32, "depth": 2, "num_frequencies": 0}, 1, 33],
    "without skip, symmetric": [{"width": 16, "depth": 3, "num_frequencies": 3, "skip": False, "symmetric": True}, 2, 17],
    "one layer": [{"width": 16, "depth": 1, "num_frequencies": 2}, 1, 16],
    "ordinary": [{"width": 16, "depth": 2, "num_frequencies": 2, "backbone": "ordinary"}, 1, 20],
}
COMMON = """
import dataclasses, json, sys
import torch
from sdfsrn.models import Field, FieldConfig, Hypernetwork

def network_of(settings):
    torch.manual_seed(0)
    network = Hypernetwork(4, 8, 1, FieldConfig(**settings))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) / p.shape[-1] ** 0.5)
    return network

def errors(found, truth):
    assert len(found) == len(truth)
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth)]
"""


def interpreted(script: str, cases: dict[str, Any], interpret: bool = True) -> dict[str, Any]:
    """What a script prints as JSON, that reads the cases as JSON; or with kernels that are compiled."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("NO KERNEL CHECKED: TRITON IS NOT INSTALLED")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=json.dumps(cases), capture_output=True, text=True,
        env={**os.environ, "TRITON_INTERPRET": str(int(interpret))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
