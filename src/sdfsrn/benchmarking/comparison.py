"""Final values of trainings, over seeds: means and their spread, and differences of configurations paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Finals = Mapping[int, Mapping[str, float]]  # by seed and metric


def compare(finals: Mapping[str, Finals]) -> dict[str, Any]:
    """`final`: the `spread` per configuration and metric; `differences` of all others with the first configuration."""
    first, *others = finals
    return {
        "final": {
            name: {key: spread(list(_column(values, key).values())) for key in _keys(values)} for name, values in finals.items()
        },
        "differences": {name: differences(finals[first], finals[name]) for name in others},
    }


def differences(first: Finals, other: Finals) -> dict[str, dict[str, Any]]:
    """Per metric the `spread` of `other` minus `first` over the seeds that have both; `agree`: how many have the mean's sign.

    >>> differences({0: {"x": 1.0}, 1: {"x": 2.0}}, {0: {"x": 1.5}, 1: {"x": 3.5}})["x"]
    {'mean': 1.0, 'std': 0.7071067811865476, 'seeds': 2, 'agree': 2}
    """
    found = {}
    for key in _keys(first):
        before, after = _column(first, key), _column(other, key)
        paired = [after[seed] - before[seed] for seed in before if seed in after]
        if paired:
            mean = statistics.fmean(paired)
            found[key] = spread(paired) | {"agree": sum(value * mean > 0 for value in paired)}
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    """`mean`, `std` (of the sample; None of a single value), and the number of `seeds`.

    >>> spread([1.0, 3.0]), spread([2.0])
    ({'mean': 2.0, 'std': 1.4142135623730951, 'seeds': 2}, {'mean': 2.0, 'std': None, 'seeds': 1})
    """
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "seeds": len(values)}


def _keys(finals: Finals) -> list[str]:
    return list(dict.fromkeys(key for values in finals.values() for key in values))


def _column(finals: Finals, key: str) -> dict[int, float]:
    """The values of a metric by seed, of the seeds that have it."""
    return {seed: values[key] for seed, values in finals.items() if key in values}
