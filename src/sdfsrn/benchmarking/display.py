"""Tables of the benchmark's results on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from sdfsrn.evaluation.summary import TENFOLD, is_error

WIDE = 200  # columns where there is no terminal
DIGITS = {"failures": 1, "pictures_per_second": 1, "seconds": 1, "steps": 0}  # of values that are no measures


def show(result: Mapping[str, Any]) -> None:
    """Print a result of `sdfsrn.benchmark`."""
    console = Console()
    settings = ", ".join(f"{name}={value}" for name, value in result["openmp"].items()) or "idle threads spin by default"
    console.print(f"{result['threads']} threads, {settings}")
    if result["part"] == "data":
        for name, rate in result["pictures_per_second"].items():
            console.print(f"{name}: {_quartiles(rate, 1, 0)} pictures/s")
    elif result["part"] == "learning":
        _show_learning(result, console if console.is_terminal else Console(width=WIDE))
    else:
        _show_times(result, console)


def _show_times(result: Mapping[str, Any], console: Console) -> None:
    variants, ratios = result["variants"], result["ratios"]
    seconds = {name: values["seconds"] for name, values in variants.items()}
    console.print(_table(f"{result['part']}, {result['device']}: ms", seconds, 1000, 1))
    if ratios:
        console.print(_table("times sdfsrn", ratios, 1, 2))
    for name, values in variants.items():
        console.print(f"{name}: {_line(values, result.get('ceilings'))}", soft_wrap=True)
    for name in ratios if result["part"] == "step" else ():
        ours, theirs = (variants[variant]["memory"]["peak"] for variant in ("sdfsrn", name))
        console.print(f"peak memory: {abs(1 - ours / theirs):.0%} {'lower' if ours < theirs else 'higher'} than {name}")


def _table(title: str, summaries: Mapping[str, Mapping[str, Mapping[str, float]]], factor: float, digits: int) -> Table:
    """One column per variant, one row per part."""
    table = Table("", *summaries, title=title)
    for part in next(iter(summaries.values())):
        cells = (_quartiles(parts[part], factor, digits) if part in parts else "" for parts in summaries.values())
        table.add_row(part, *cells)
    return table


def _line(values: Mapping[str, Any], top: Mapping[str, float] | None) -> str:
    if top is None:
        return ", ".join(f"{name} {10 * value:.3f}" for name, value in values["metrics"].items()) + " (x10)"
    parts = [f"{values['images_per_second']:.2f} images/s", f"peak {values['memory']['peak'] / 2**30:.2f} GiB"]
    parts += [f"{values['flops'] / 1e9:.1f} GFLOP", f"{values['operations']} operations"]
    parts += [f"{values['kernels']} kernels"] if "kernels" in values else []
    for unit, label in (("flops", "FLOP/s"), ("bytes", "B/s")):
        reached, limit = values[f"{unit}_per_second"], top[f"{unit}_per_second"]
        if reached is None:
            continue
        parts.append(f"{reached / 1e9:.1f} of {limit / 1e9:.1f} G{label} measured ({reached / limit:.0%})")
    return ", ".join(parts)


def _quartiles(summary: Mapping[str, float], factor: float, digits: int) -> str:
    median, low, high = (f"{factor * summary[name]:.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _show_learning(result: Mapping[str, Any], console: Console) -> None:
    """Budgets, final values beside the references, and differences of pairs; distances are times ten."""
    for name, each in result["configurations"].items():
        console.print(f"{name}: {each['steps']} steps{_pace(each['pace'])}", soft_wrap=True)
    final, references, differences = result["final"], result["references"], result["differences"]
    seeds = len(result["seeds"])
    title = f"learning, {result['device']}: " + (f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed")
    table = Table("", *final, *references, title=title)
    for name in dict.fromkeys(name for values in final.values() for name in values):
        ours = [_mean(values.get(name), name, seeds) for values in final.values()]
        theirs = [_number(found["metrics"].get(name, {}).get("mean"), name) for found in references.values()]
        table.add_row(_label(name), *ours, *theirs)
    console.print(table)
    if differences:
        base = next(iter(final))
        table = Table("", *(f"{name} - {base}" for name in differences), title="differences, paired by seed")
        for name in dict.fromkeys(name for values in differences.values() for name in values):
            table.add_row(_label(name), *(_difference(values.get(name), name) for values in differences.values()))
        console.print(table)


def _pace(pace: Mapping[str, float] | None) -> str:
    if pace is None:
        return ""
    times = f"{pace['seconds_per_step']:.3f} s per step after {pace['seconds_before']:.1f} s"
    return f", from the pace of {pace['measured_steps']} steps in this process: {times}"


def _label(name: str) -> str:
    """A value's name in words, with the direction of better values."""
    measure = name.removeprefix("training_")
    arrow = "" if name in DIGITS else "↓" if is_error(measure) else "↑"
    return f"{name.replace('_', ' ')}{' x10' if name in TENFOLD else ''} {arrow}".rstrip()


def _number(value: float | None, name: str, sign: str = "") -> str:
    if value is None:
        return ""
    return f"{(10 if name in TENFOLD else 1) * value:{sign}.{DIGITS.get(name, 3)}f}"


def _mean(found: Mapping[str, Any] | None, name: str, seeds: int) -> str:
    if found is None:
        return "failures only"
    some = f" ({found['seeds']} of {seeds} seeds)" if found["seeds"] < seeds else ""
    return _with_spread(found, name) + some


def _difference(found: Mapping[str, Any] | None, name: str) -> str:
    if found is None:
        return ""
    agreement = f" ({found['agree']} of {found['seeds']} agree)" if found["seeds"] > 1 and found["mean"] else ""
    return _with_spread(found, name, "+") + agreement


def _with_spread(found: Mapping[str, Any], name: str, sign: str = "") -> str:
    mean = _number(found["mean"], name, sign)
    return mean if found["std"] is None else f"{mean} ± {_number(found['std'], name)}"
