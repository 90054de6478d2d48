from __future__ import annotations

import pytest
import torch
from torch import nn

from sdfsrn.losses import Objective
from sdfsrn.models.field import Field, FieldConfig
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.structures import March, Views


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.calls = 0

    def forward(self, shape: Field, rendering: March, views: Views) -> torch.Tensor:
        self.calls += 1
        return self.value


@pytest.fixture
def batch() -> tuple[Field, March, Views]:
    field = Hypernetwork(2, 2, 0, FieldConfig(width=2, depth=1, num_frequencies=0))(torch.randn(1, 2))
    return field, March(*[torch.zeros(1, 1, 1)] * 6), Views(*[torch.zeros(1)] * 12)


def test_the_sum_is_weighted_and_the_terms_are_not(batch) -> None:
    objective = Objective({"a": Constant(2.0), "b": Constant(5.0)}, {"a": 3, "b": 0.1})
    total, terms = objective(*batch)
    assert total.item() == pytest.approx(6.5)
    assert {name: value.item() for name, value in terms.items()} == {"a": 2.0, "b": 5.0}
    total.backward()
    assert objective.terms["a"].value.grad.item() == 3
    assert objective.terms["b"].value.grad.item() == pytest.approx(0.1)


def test_a_term_without_weight_is_never_computed(batch) -> None:
    off = Constant(float("nan"))
    total, terms = Objective({"on": Constant(2.0), "off": off}, {"on": 1.0, "off": 0})(*batch)
    assert total.item() == 2
    assert list(terms) == ["on"]
    assert off.calls == 0


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "B": 1.0}])
def test_terms_and_weights_must_match(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"terms \['a', 'b'\]"):
        Objective({"a": Constant(1.0), "b": Constant(1.0)}, weights)
