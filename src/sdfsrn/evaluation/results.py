"""What an evaluation found: a row an object, statistics over objects, and a table with the baselines beside the model."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from sdfsrn.functional.surface import bootstrap_interval
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.files import write_atomically

TENFOLD = ("accuracy", "coverage", "chamfer")  # as in the paper's tables


class Row(NamedTuple):
    """One object of `metrics.csv`."""

    number: int  # in the split
    name: str
    status: str  # ok; failure: no usable prediction; no ground truth; unreadable: no picture or a broken truth
    values: Mapping[str, float]  # what could be measured, see `sdfsrn.evaluation.measuring`
    vertices: int = 0
    faces: int = 0
    mesh: str = ""  # stem of its files in `meshes/`, if there are any


def file_stem(number: int, name: str) -> str:
    """What an object's files are called."""
    return f"{number:04d}_{name}"


def write_rows(rows: Sequence[Row], metrics: Sequence[str], path: pathlib.Path) -> None:
    """A CSV file with a column a metric; the cell of what was not measured is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["number", "name", "status", *metrics, "vertices", "faces", "mesh"])
    for row in rows:
        measured = [row.values.get(name, "") for name in metrics]
        writer.writerow([row.number, row.name, row.status, *measured, row.vertices, row.faces, row.mesh])
    write_atomically(path, text.getvalue().encode())


def statistics(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """`metrics`: of each metric mean, median, the 95 % bootstrap interval of the mean (`low`, `high`), and the count.

    Beside them the means of the Chamfer distances, as they are and ten times as large; null if nothing was measured.
    Independent of the order of the rows.
    """
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        values = np.sort([row.values[name] for row in rows if name in row.values])
        low, high = bootstrap_interval(values, seed)
        mean = math.fsum(values) / len(values)
        found[name] = {"mean": mean, "median": float(np.median(values)), "low": low, "high": high, "count": len(values)}
    means = {name: found[name]["mean"] if name in found else None for name in TENFOLD}
    return {"metrics": found, **means, **{f"{name}_x10": None if x is None else 10 * x for name, x in means.items()}}


def summarize(rows: Sequence[Row], protocol: EvaluationProtocol) -> dict[str, Any]:
    """`statistics`, counts, the protocol with its seed, and this package's version."""
    from sdfsrn import __version__

    return {
        **statistics(rows, protocol.seed),
        "objects": len(rows),
        "measured": sum(row.status == "ok" for row in rows),
        "failures": sum(row.status.startswith("failure") for row in rows),
        "without_truth": sum(row.status == "no ground truth" for row in rows),
        "unreadable": sum(row.status.startswith("unreadable") for row in rows),
        "protocol": dataclasses.asdict(protocol),
        "version": __version__,
    }


def complaint(summary: Mapping[str, Any]) -> str | None:
    """One line about objects that were not measured; None if all were, or if the split has no ground truth at all."""
    lost = {name: summary[name] for name in ("failures", "unreadable", "without_truth")}
    if summary["without_truth"] == summary["objects"]:
        lost["without_truth"] = 0
    count = sum(lost.values())
    if count == 0:
        return None
    reasons = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in lost.items() if number)
    return f"{count} of {summary['objects']} objects were not measured ({reasons}); metrics.csv says why."


def show(summary: dict[str, Any]) -> None:
    """Means of the model, with their intervals, beside those of the baselines."""
    lines = {}
    if "before_optimization" in summary:
        lines["before"] = summary["before_optimization"]
    lines |= summary["baselines"]
    forgiven = _forgiven(summary["protocol"])
    title = f"Means over objects ({forgiven}); ↓ lower, ↑ higher is better"
    first, interval = Column("", no_wrap=True), Column("95 % interval", min_width=11)
    headings = ("model", "median", *(name.removeprefix("untrained ") for name in lines))  # no word is wider than its column
    model, median, *others = (Column(heading, min_width=6, max_width=8, overflow="fold") for heading in headings)  # fits 80
    table = Table(
        first,
        model,
        interval,
        median,
        *others,
        title=title,
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    for name, found in summary["metrics"].items():
        rivals = [line["metrics"].get(name) for line in lines.values()]
        table.add_row(
            f"{name.replace('_', ' ').replace('silhouette', 'mask')} {'↓' if is_error(name) else '↑'}",
            f"{found['mean']:.4f}",
            f"{found['low']:.3f}-{found['high']:.3f}",
            f"{found['median']:.4f}",
            *("" if other is None else f"{other['mean']:.4f}" for other in rivals),
        )
    table.caption = (
        f"{summary['measured']} of {summary['objects']} objects measured, {summary['failures']} failures, "
        f"{summary['without_truth']} without truth, {summary['unreadable']} unreadable"
    )
    Console().print(table)


def is_error(metric: str) -> bool:
    """Lower is better."""
    return metric.startswith(("accuracy", "coverage", "chamfer", "depth"))


def _forgiven(protocol: Mapping[str, Any]) -> str:
    steps = [] if protocol["alignment"] == "none" else [f"{protocol['alignment']} alignment"]
    if protocol["icp_iterations"]:
        steps.append("rigid ICP")
    return f"after {', then '.join(steps)}" if steps else "without alignment"
