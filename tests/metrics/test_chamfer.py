from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cdist

from sdfsrn.metrics import ChamferDistance


@pytest.fixture
def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(50 + 10 * i, 3), torch.randn(80 - 5 * i, 3)) for i in range(4)]


def test_the_mean_over_objects_not_over_points(pairs) -> None:
    metric = ChamferDistance()
    for predicted, truth in pairs:
        metric.update(predicted, truth)
    distances = [cdist(predicted, truth) for predicted, truth in pairs]
    accuracy = sum(d.min(1).mean() for d in distances) / 4
    coverage = sum(d.min(0).mean() for d in distances) / 4
    result = {name: value.item() for name, value in metric.compute().items()}
    expected = {"accuracy": accuracy, "coverage": coverage, "chamfer": (accuracy + coverage) / 2, "failures": 0}
    assert result == pytest.approx(expected, rel=1e-5)


def test_two_processes_summed_are_one(pairs) -> None:
    together, halves = ChamferDistance(), (ChamferDistance(), ChamferDistance())
    empty = torch.zeros(0, 3)
    for i, (predicted, truth) in enumerate([*pairs, (empty, pairs[0][1])]):
        together.update(predicted, truth)
        halves[min(i, 1)].update(predicted, truth)  # uneven on purpose
    merged = ChamferDistance()
    for name, reduce in merged._reductions.items():
        setattr(merged, name, reduce(torch.stack([getattr(half, name) for half in halves])))
    merged._update_count = 1
    for name, value in together.compute().items():
        torch.testing.assert_close(merged.compute()[name], value)
    assert merged.compute()["failures"] == 1


def test_an_empty_prediction_is_a_failure_and_no_distance(pairs) -> None:
    metric = ChamferDistance()
    metric.update(*pairs[0])
    alone = metric.compute()
    metric.update(torch.zeros(0, 3), pairs[1][1])
    both = metric.compute()
    assert both["failures"] == 1
    assert both["accuracy"] == alone["accuracy"]
    assert both["coverage"] == alone["coverage"]


def test_nothing_but_failures_is_infinitely_far() -> None:
    metric = ChamferDistance()
    metric.update(torch.zeros(0, 3), torch.randn(5, 3))
    result = metric.compute()
    assert result["failures"] == 1
    assert all(result[name].isposinf() for name in ("accuracy", "coverage", "chamfer"))


def test_an_object_without_truth_is_an_error(pairs) -> None:
    with pytest.raises(ValueError, match="0 true ones"):
        ChamferDistance().update(pairs[0][0], torch.zeros(0, 3))


def test_reset_forgets(pairs) -> None:
    metric = ChamferDistance()
    metric.update(*pairs[0])
    metric.update(torch.zeros(0, 3), pairs[0][1])
    metric.reset()
    metric.update(*pairs[1])
    fresh = ChamferDistance()
    fresh.update(*pairs[1])
    assert metric.compute() == fresh.compute()


def test_forward_measures_one_object_and_adds_it(pairs) -> None:
    metric = ChamferDistance()
    single = metric(*pairs[0])
    metric(*pairs[1])
    alone = ChamferDistance()
    alone.update(*pairs[0])
    assert single == alone.compute()
    assert metric.measured == 2
