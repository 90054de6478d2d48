"""The plot of `part=learning`: measures against the time of training, with the references beside them."""

from __future__ import annotations

import importlib.util
import io
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdfsrn.evaluation.summary import TENFOLD, is_error
from sdfsrn.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # also for the colour-blind
DASHES: tuple[Any, ...] = ((0, (6, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
TITLES = {
    "chamfer": "Chamfer distance x10",
    "silhouette_iou": "silhouette IoU, input view",
    "novel_silhouette_iou": "silhouette IoU, other views",
}


def check_matplotlib() -> None:
    """Raise ValueError if Matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("part=learning draws with Matplotlib: pip install 'sdfsrn[benchmark]'")


def draw_curves(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Write a PNG: one line per configuration, the mean over seeds, in the range of the seeds; references are dashed."""
    from matplotlib.figure import Figure

    names = _drawn_metrics(result)
    if not names:
        return
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.3 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in itertools.zip_longest(grid, names):
        if name is None:
            axes.remove()
        else:
            _panel(axes, name, result)
    shown = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for found in shown for handle, label in zip(*found, strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False)
    seeds = len(result["seeds"])
    figure.suptitle(f"Test split, mean and range of {seeds} seeds" if seeds > 1 else "Test split, one seed")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    write_atomically(path, stream.getvalue())


def _drawn_metrics(result: Mapping[str, Any]) -> list[str]:
    """The metrics with a panel: of TITLES and the most lenient F-score, those that any configuration has at its end."""
    score = f"fscore@{max(result['protocol']['thresholds'], default=0):g}"
    known = {name for final in result["final"].values() for name in final}
    return [name for name in (*TITLES, score) if name in known]


def _panel(axes: Axes, name: str, result: Mapping[str, Any]) -> None:
    factor, drawn = 10 if name in TENFOLD else 1, []
    for color, (label, each) in zip(itertools.cycle(COLORS), result["configurations"].items(), strict=False):
        seconds, values = _curve(each["runs"], name)
        mean, low, high = factor * values.mean(0), factor * values.min(0), factor * values.max(0)
        axes.plot(seconds, mean, color=color, marker="o", markersize=3.5, linewidth=1.8, label=label)
        axes.fill_between(seconds, low, high, color=color, alpha=0.15, linewidth=0)
        drawn += [*low.compressed(), *high.compressed()]
    lines = {
        label: factor * reference["metrics"][name]["mean"]
        for label, reference in result["references"].items()
        if name in reference["metrics"]
    }
    bottom, top = _limits(drawn, list(lines.values()))
    for label, dash in zip(result["references"], itertools.cycle(DASHES), strict=False):
        if bottom < lines.get(label, bottom) < top:
            axes.axhline(lines[label], color="0.35", linestyle=dash, linewidth=1.2, zorder=1, label=label)
    far = [f"{label}: {value:.2f} {'↑' if value > top else '↓'}" for label, value in lines.items() if not bottom < value < top]
    place: dict[str, Any] = {"y": 0.97, "va": "top"} if is_error(name) else {"y": 0.03, "va": "bottom"}  # off the curves
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(
        0.98, s="\n".join(far), transform=axes.transAxes, ha="right", fontsize=8, color="0.35", bbox=box, zorder=1.5, **place
    )
    title = TITLES.get(name, f"F-score at {name.partition('@')[2]}")
    axes.set_title(f"{title} ({'lower' if is_error(name) else 'higher'} is better)", fontsize=10)
    axes.set(xlabel="seconds of training, with pretraining", ylim=(bottom, top))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(runs: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ma.MaskedArray]:
    """Mean seconds of the moments, and the values by seed and moment; masked where all objects failed."""
    seconds = np.mean([[moment["seconds"] for moment in run["moments"]] for run in runs], axis=0)
    values = [[moment["metrics"].get(name, np.nan) for moment in run["moments"]] for run in runs]
    return seconds, np.ma.masked_invalid(np.array(values, float))


def _limits(curves: Sequence[float], references: Sequence[float]) -> tuple[float, float]:
    """The axis' ends: around the curves, and around those references that do not flatten the curves."""
    low, high = min(curves), max(curves)
    reach = max(high - low, 0.1 * abs(high), 1e-3)
    near = [value for value in references if low - reach <= value <= high + reach]
    low, high = min(low, *near, high), max(high, *near, low)
    margin = 0.08 * max(high - low, 1e-3)
    return low - margin, high + margin
