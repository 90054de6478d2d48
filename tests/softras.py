"""Recorded closed-form values of SoftRas and CMR, see shared/softras_values.md; and pairs of everything with everything."""

from __future__ import annotations

import functools
import json
import os
import pathlib
from typing import Any

import pytest
import torch

from sdfsrn.functional.rasterize import Pairs, make_pairs

ROOT = pathlib.Path(__file__).parents[1]
PATH = pathlib.Path(os.environ.get("SDFSRN_SOFTRAS_VALUES", ROOT.parent / "shared" / "softras_values.json"))


@functools.cache
def _values() -> dict[str, Any]:
    return json.loads(PATH.read_text())


def softras_values(name: str) -> Any:
    """One part of the values; skips the test where the file is missing."""
    if not PATH.is_file():
        pytest.skip(f"NO SOFTRAS VALUES CHECKED: {PATH} IS MISSING, SET SDFSRN_SOFTRAS_VALUES TO THE FILE")
    return _values()[name]


def double(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double)


def all_pairs(batch: int, triangles: int, points: int) -> Pairs:
    """Every triangle of an object with every point of its picture."""
    triangle = torch.arange(batch * triangles).repeat_interleave(points)
    point = triangle // triangles * points + torch.arange(points).repeat(batch * triangles)
    return make_pairs(triangle, point, torch.full((batch * triangles,), points), batch * points)
