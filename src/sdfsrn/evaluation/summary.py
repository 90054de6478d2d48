"""Numbers of an evaluation: one row per object, statistics over objects, a table of the model beside the references."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from sdfsrn.functional.surface import bootstrap_interval
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.files import reading, write_atomically
from sdfsrn.runtime.version import VERSION

FIRST, LAST = ("number", "name", "status"), ("vertices", "faces", "mesh")  # columns before and after the metrics
TENFOLD = ("accuracy", "coverage", "chamfer")  # as in the paper's tables


class Row(NamedTuple):
    """One object of `metrics.csv`."""

    number: int  # in the split
    name: str
    status: str = ""  # ok; failure: no usable prediction; no ground truth; unreadable: no picture or a broken ground truth
    values: Mapping[str, float] = MappingProxyType({})  # measures, see `sdfsrn.evaluation.measuring`
    vertices: int = 0
    faces: int = 0
    mesh: str = ""  # stem of its files in `meshes/`, if there are any


def file_stem(number: int, name: str) -> str:
    """The name of an object's files, without suffix."""
    return f"{number:04d}_{name}"


def write_rows(rows: Sequence[Row], metrics: Sequence[str], path: pathlib.Path) -> None:
    """Write a CSV file with one column per metric; the cell of a measure that is not known is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*FIRST, *metrics, *LAST])
    for row in rows:
        measured = [row.values.get(name, "") for name in metrics]
        writer.writerow([row.number, row.name, row.status, *measured, row.vertices, row.faces, row.mesh])
    write_atomically(path, text.getvalue().encode())


def read_rows(path: pathlib.Path) -> list[Row]:
    """The rows that `write_rows` wrote. Raises ValueError for another table."""
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        columns = tuple(table.fieldnames or ())
        if columns[:3] != FIRST or columns[-3:] != LAST:
            expected = ", ".join([*FIRST, "...", *LAST])
            raise ValueError(f"Expected the columns {expected}, got {', '.join(columns)} in {path}")
        with reading(path, "results"):
            return [_row(cells, columns[3:-3]) for cells in table]


def _row(cells: Mapping[str, str], metrics: Sequence[str]) -> Row:
    values = {name: float(cells[name]) for name in metrics if cells[name]}
    number, vertices, faces = (int(cells[name]) for name in ("number", "vertices", "faces"))
    return Row(number, cells["name"], cells["status"], values, vertices, faces, cells["mesh"])


def statistics(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """`metrics`: mean, median, the 95 % bootstrap interval of the mean (`low`, `high`) and the count, per metric.

    Beside them the means of the Chamfer distances, plain and times ten; None if nothing was measured.
    Independent of the order of the rows.
    """
    metrics: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.values):
        values = np.sort([row.values[name] for row in rows if name in row.values])
        low, high = bootstrap_interval(values, seed)
        mean = math.fsum(values) / len(values)
        metrics[name] = {"mean": mean, "median": float(np.median(values)), "low": low, "high": high, "count": len(values)}
    means = {name: metrics[name]["mean"] if name in metrics else None for name in TENFOLD}
    return {"metrics": metrics, **means, **{f"{name}_x10": None if x is None else 10 * x for name, x in means.items()}}


def summarize(rows: Sequence[Row], protocol: EvaluationProtocol) -> dict[str, Any]:
    """`statistics`, counts, the protocol with its seed, and this package's version."""
    return {
        **statistics(rows, protocol.seed),
        "objects": len(rows),
        "measured": sum(row.status == "ok" for row in rows),
        "failures": sum(row.status.startswith("failure") for row in rows),
        "without_truth": sum(row.status == "no ground truth" for row in rows),
        "unreadable": sum(row.status.startswith("unreadable") for row in rows),
        "protocol": dataclasses.asdict(protocol),
        "version": VERSION,
    }


def complaint(summary: Mapping[str, Any]) -> str | None:
    """One line about the objects that were not measured; None if all were, or if the split has no ground truth."""
    lost = {name: summary[name] for name in ("failures", "unreadable", "without_truth")}
    if summary["without_truth"] == summary["objects"]:
        lost["without_truth"] = 0
    count = sum(lost.values())
    if count == 0:
        return None
    reasons = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in lost.items() if number)
    return f"{count} of {summary['objects']} objects were not measured ({reasons}); metrics.csv says why."


def show(summary: Mapping[str, Any]) -> None:
    """Print the model's means, with their intervals, beside those before optimization and those of the references."""
    others = {"before": summary["before_optimization"]} if "before_optimization" in summary else {}
    others |= summary["references"]
    names = [name.removeprefix("untrained ") for name in others]  # no word is wider than its column
    columns = [Column(name, min_width=6, max_width=8, overflow="fold") for name in ("model", "median", *names)]  # fits 80
    columns[1:1] = [Column("95 % interval", min_width=11)]
    title = f"Means over objects ({_alignment(summary['protocol'])}); ↓ lower, ↑ higher is better"
    style: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": 0, "show_edge": False, "pad_edge": False}
    table = Table(Column("", no_wrap=True), *columns, title=title, **style)
    for name, model in summary["metrics"].items():
        compared = [other["metrics"].get(name) for other in others.values()]
        table.add_row(
            f"{name.replace('_', ' ').replace('silhouette', 'mask')} {'↓' if is_error(name) else '↑'}",
            f"{model['mean']:.4f}",
            f"{model['low']:.3f}-{model['high']:.3f}",
            f"{model['median']:.4f}",
            *("" if other is None else f"{other['mean']:.4f}" for other in compared),
        )
    table.caption = (
        f"{summary['measured']} of {summary['objects']} objects measured, {summary['failures']} failures, "
        f"{summary['without_truth']} without truth, {summary['unreadable']} unreadable"
    )
    Console().print(table)


def is_error(metric: str) -> bool:
    """Whether lower values are better."""
    return metric.startswith(("accuracy", "coverage", "chamfer", "depth", "color"))


def _alignment(protocol: Mapping[str, Any]) -> str:
    """The protocol's alignment in words."""
    steps = [] if protocol["alignment"] == "none" else [f"{protocol['alignment']} alignment"]
    if protocol["icp_iterations"]:
        steps.append("rigid ICP")
    return f"after {', then '.join(steps)}" if steps else "without alignment"
