"""The objective: a weighted sum of named terms."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from sdfsrn.models.field import Field
from sdfsrn.structures import March, Views


class Objective(nn.Module):
    """L_all = sum of lambda_i L_i. Eq. (11), arXiv:2010.10505.

    Args:
        terms: modules called with (field, march, views), by name.
        weights: lambda of every term; a term of weight 0 is never computed.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(f"Expected a weight for each loss term, got terms {sorted(terms)}, weights {sorted(weights)}.")
        if not any(weights.values()):
            raise ValueError(f"Expected at least one loss weight other than 0, got {dict(weights)}.")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    def forward(self, field: Field, march: March, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and every term before its weight."""
        values = {name: term(field, march, views) for name, term in self.terms.items()}
        return sum(self.weights[name] * value for name, value in values.items()), values
