"""Tables and curves of trainings, on numbers made by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from PIL import Image

from sdfsrn.benchmarking.comparison import compare, differences
from sdfsrn.benchmarking.curves import _limits, draw_curves
from sdfsrn.benchmarking.display import show

FINALS = {
    "base": {
        0: {"chamfer": 0.050, "silhouette_iou": 0.70},
        1: {"chamfer": 0.060, "silhouette_iou": 0.80},
        2: {"chamfer": 0.040},
    },
    "other": {0: {"chamfer": 0.047, "silhouette_iou": 0.70}, 1: {"chamfer": 0.061}, 2: {"chamfer": 0.036}},
}


def result(finals: dict[str, dict[int, dict[str, float]]]) -> dict[str, Any]:
    """A result of `part=learning`: each training has two moments, at the first of which nothing has a surface."""
    runs = {
        name: [
            {"seed": seed, "moments": [{"seconds": 10.0 + seed, "metrics": {}}, {"seconds": 20.0 + seed, "metrics": metrics}]}
            for seed, metrics in values.items()
        ]
        for name, values in finals.items()
    }
    references = {
        "untrained sphere": {"metrics": {"chamfer": {"mean": 0.5}, "silhouette_iou": {"mean": 0.69}}},
        "best constant shape": {"metrics": {"chamfer": {"mean": 0.045}}},
    }
    pace = {"seconds_before": 1.0, "seconds_per_step": 0.25, "measured_steps": 20}
    return {
        "part": "learning", "device": "cpu", "threads": 1, "openmp": {}, "seeds": list(finals["base"]),
        "protocol": {"thresholds": [0.05]}, "references": references,
        "configurations": {name: {"steps": 9, "pace": pace, "runs": runs[name]} for name in finals}, **compare(finals),
    }  # fmt: skip


def test_differences_are_paired_by_seed() -> None:
    found = compare(FINALS)
    assert found["final"]["base"]["chamfer"] == {"mean": pytest.approx(0.05), "std": pytest.approx(0.01), "seeds": 3}
    assert found["final"]["other"]["silhouette_iou"] == {"mean": 0.7, "std": None, "seeds": 1}
    (paired,) = found["differences"].values()
    assert paired["chamfer"] == {"mean": pytest.approx(-0.002), "std": pytest.approx(7**0.5 / 1000), "seeds": 3, "agree": 2}
    assert paired["silhouette_iou"] == {"mean": 0, "std": None, "seeds": 1, "agree": 0}  # the only seed that both have
    assert differences({0: {"chamfer": 1.0}}, {1: {"chamfer": 2.0}}) == {}


def test_tables_of_hand_made_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    show(result(FINALS))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert rows == [
        ["chamfer x10 ↓", "0.500 ± 0.100", "0.480 ± 0.125", "5.000", "0.450"],
        ["silhouette iou ↑", "0.750 ± 0.071 (2 of 3 seeds)", "0.700 (1 of 3 seeds)", "0.690", ""],
        ["chamfer x10 ↓", "-0.020 ± 0.026 (2 of 3 agree)"],
        ["silhouette iou ↑", "+0.000"],
    ]


def test_one_seed_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    show(result({name: {0: values[0]} for name, values in FINALS.items()}))
    shown = capsys.readouterr().out
    assert "one seed" in shown
    assert "-0.030" in shown
    assert not any(word in shown for word in ("±", "agree", "deviation"))
    assert "9 steps, from the pace of 20 steps in this process: 0.250 s per step after 1.0 s" in shown


def test_only_failures_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    show(result({"base": {0: {"chamfer": 0.5, "failures": 0.0}}, "other": {0: {"failures": 2.0}}}))
    assert "failures only" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_are_drawn_also_with_failures(seeds: int, tmp_path: pathlib.Path) -> None:
    draw_curves(result({name: dict(list(values.items())[:seeds]) for name, values in FINALS.items()}), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(2**24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x59, 0x59, 0x59)} <= colors  # both configurations, a reference


def test_nothing_measured_is_not_drawn(tmp_path: pathlib.Path) -> None:
    draw_curves(result({"base": {0: {"failures": 2.0}}}), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_distant_reference_does_not_flatten_the_curves() -> None:
    low, high = _limits([0.4, 0.9], [1.7, 0.3])
    assert 0.2 < low < 0.3
    assert 0.9 < high < 1.0
    low, high = _limits([0.5], [])
    assert low < 0.5 < high
