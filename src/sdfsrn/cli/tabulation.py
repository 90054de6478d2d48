"""A table with published and measured figures: on the console, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console

from sdfsrn.runtime.files import write_atomically

MEASURES = ("paper accur.", "paper cover.", "here accur.", "here cover.", "iterations", "note")
UNITS = "Mean distances x10, lower is better: accuracy is prediction to truth, coverage truth to prediction."
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


class Line(NamedTuple):
    """A row; without a name only its published figures are known."""

    label: Sequence[str]
    published: tuple[float, float]  # accuracy, coverage
    measured: tuple[float | None, float | None] = (None, None)
    name: str = ""
    iterations: int | None = None
    objects: int | None = None
    seconds: float | None = None
    hardware: str = ""
    data: str = ""
    note: str = ""


class Table(NamedTuple):
    """A title, headings of the labels, lines, and remarks below them."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Line]
    remarks: Sequence[str] = ()


def show(table: Table, console: Console | None = None) -> None:
    """Print the table."""
    shown = rich.table.Table(box=SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False, title=table.title)
    for heading in (*table.headings, *MEASURES):
        width = {"iterations": 10, "note": None}.get(heading, 6) if heading in MEASURES else None
        shown.add_column(heading, justify="right" if width else "left", max_width=width, overflow="fold")
    for line in table.lines:
        shown.add_row(*map(rich.markup.escape, cells(line)))
    console = console or Console()
    console.print(shown)
    console.print("\n".join(remarks(table)), markup=False, highlight=False, soft_wrap=True)


def write(table: Table, stem: pathlib.Path, formats: Sequence[str]) -> list[pathlib.Path]:
    """Write the table to `<stem>.md`, `.csv`, `.tex`, by the names of FORMATS; the files' paths."""
    paths = []
    for name in formats:
        suffix, text = FORMATS[name]
        paths.append(stem.with_name(f"{stem.name}.{suffix}"))
        write_atomically(paths[-1], text(table).encode())
    return paths


def cells(line: Line) -> list[str]:
    """A line's text under the headings and `MEASURES`; an empty one for what is not known."""
    numbers = ["" if value is None else f"{value:.3f}" for value in (*line.published, *line.measured)]
    steps = "" if line.iterations is None else f"{line.iterations:,}"
    return [*line.label, *numbers, steps, line.note]


def remarks(table: Table) -> list[str]:
    """What holds for the whole table: remarks, units, data and hardware."""
    found = [*table.remarks, UNITS]
    for heading in ("data", "hardware"):
        known = [value for value in dict.fromkeys(getattr(line, heading) for line in table.lines) if value]
        found += [f"{heading.capitalize()}: {'; '.join(known)}."] if known else []
    return found


def markdown(table: Table) -> str:
    """A table of GitHub's kind."""
    count = len(table.headings)
    rule = ["---"] * count + ["---:"] * (len(MEASURES) - 1) + ["---"]
    rows = [[*table.headings, *MEASURES], rule, *(cells(line) for line in table.lines)]
    text = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"**{table.title}**", "", *(f"| {row} |" for row in text), "", *(f"{r}  " for r in remarks(table)), ""])


def comma_separated(table: Table) -> str:
    """All that is known of every line, numbers unrounded."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    known = ("name", "iterations", "objects", "seconds", "hardware", "data", "note")
    figures = [f"{who} {what} x10" for who in ("published", "measured") for what in ("accuracy", "coverage")]
    writer.writerow([*table.headings, *figures, *known])
    for line in table.lines:
        writer.writerow([*line.label, *line.published, *line.measured, *(getattr(line, name) for name in known)])
    return stream.getvalue()


def latex(table: Table) -> str:
    """A `table` environment; needs the package booktabs."""
    columns = "l" * len(table.headings) + "r" * (len(MEASURES) - 1) + "l"
    rows = [" & ".join(map(_tex, cells(line))) + r" \\" for line in table.lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(' '.join([table.title + '.', *remarks(table)]))}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_tex, (*table.headings, *MEASURES))) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


FORMATS = {"markdown": ("md", markdown), "csv": ("csv", comma_separated), "latex": ("tex", latex)}
