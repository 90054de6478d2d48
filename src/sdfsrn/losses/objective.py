"""The objective: a weighted sum of named terms."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.structures import Rendering, Views


class Objective(nn.Module):
    """L_all = sum of lambda_i L_i. Eq. (11), arXiv:2010.10505.

    A term is a module called with

    - `shape`: what the model's decoder returned for the images (`SDFSRN`: a `Field`),
    - `rendering`: what its renderer returned at the rays of the views (`SDFSRN`: a `March`),
    - `views`: the batch;

    it returns a scalar, the mean over the batch, weighted by `Views.ray_weight` where it is one over rays. It may draw random
    numbers from torch's global generator, whose state at each step is a function of seed and step. It keeps its arguments as
    attributes of the same names, so that a checkpoint can say how it was built.

    Args:
        terms: by name; each is logged as `train/<name>`.
        weights: lambda of every term; a term of weight 0 is never computed.

    Raises:
        ValueError: a term without weight, a weight without term, or only weights of 0.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(f"Expected a weight for each loss term, got terms {sorted(terms)}, weights {sorted(weights)}.")
        if not any(weights.values()):
            raise ValueError(f"Expected at least one loss weight other than 0, got {dict(weights)}.")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    def forward(self, shape: Any, rendering: Rendering, views: Views) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The sum, and every term before its weight."""
        values: dict[str, Tensor] = {name: term(shape, rendering, views) for name, term in self.terms.items()}
        return functools.reduce(torch.add, (self.weights[name] * value for name, value in values.items())), values
