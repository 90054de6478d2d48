"""Text files from other programs: encodings, JSON, and tables of cells as spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import pathlib
import re
from collections.abc import Container
from typing import Any

from sdfsrn.runtime.files import reading

SEPARATORS = ",;\t"
MARKS = {  # at the start of a file; that of UTF-32 begins as UTF-16's does
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
REMEDY = "save it as text in UTF-8 (in Excel: CSV UTF-8)"


def read_text(path: pathlib.Path, what: str = "text") -> str:
    """The text of a file in UTF-8, in UTF-16 or UTF-32 with a mark, or else in Windows-1252, as Excel writes CSV.

    Raises:
        ValueError: no such file, or one in another encoding, with the line.
    """
    with reading(path, what):
        return decode(path.read_bytes())


def read_json(path: pathlib.Path, what: str = "JSON") -> Any:
    """The content of a JSON file. Raises ValueError, naming the file, for anything else."""
    with reading(path, what):
        return json.loads(decode(path.read_bytes()))


def decode(content: bytes) -> str:
    """The text of a file's content, without its mark, see `read_text`."""
    if content.startswith(b"PK"):
        raise ValueError(f"expected text, got a workbook or another archive: {REMEDY}")
    encoding = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    for candidate in ["utf-8", "cp1252"] if encoding is None else [encoding]:
        try:
            text = content.decode(candidate)
            break
        except UnicodeDecodeError as error:
            before, reason = content[: error.start].decode("latin-1"), str(error)
    else:
        raise ValueError(f"expected text, got line {_line(before)} in an unknown encoding ({reason}): {REMEDY}")
    if "\0" in text:
        raise ValueError(f"expected text, got other bytes in line {_line(text[: text.index(chr(0))])}: {REMEDY}")
    return text


def table_rows(text: str, numbers: Container[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table with a header, by column, each with its place for messages: "row 3".

    Cells are separated by what separates those of the header, a comma, semicolon or tab, or by what a first line `sep=;`
    says. Where that is no comma, decimal commas of the columns `numbers` become points.

    Raises:
        ValueError: a column twice, or a row with more cells than the header.
    """
    stated = re.match(r'"?sep=(.)"?\s*?\r?\n', text, re.IGNORECASE)
    body = text[stated.end() :] if stated else text
    header = next((line for line in body.splitlines() if line.strip()), "")
    separator = stated[1] if stated else max(SEPARATORS, key=header.count)
    first = 2 if stated else 1
    cells = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(body, newline=""), delimiter=separator)]
    lines = [(number, _without_end(line)) for number, line in enumerate(cells, first) if any(line)]
    if not lines:
        return []
    names = lines[0][1]
    if len(set(names)) != len(names):
        raise ValueError(f"expected every column once, got {', '.join(names)}")
    for number, line in lines[1:]:
        if len(line) > len(names):
            hint = " (numbers with decimal commas need semicolons or tabs between the cells)" if separator == "," else ""
            raise ValueError(f"expected {len(names)} cells as in the first row, got {len(line)} in row {number}{hint}")
    rows = [(f"row {number}", dict(zip(names, line, strict=False))) for number, line in lines[1:]]
    return rows if separator == "," else [(place, _with_points(row, numbers)) for place, row in rows]


def _without_end(line: list[str]) -> list[str]:
    """A row without the empty cells at its end, which spreadsheets add."""
    return line[: max((i for i, cell in enumerate(line, 1) if cell), default=0)]


def _with_points(row: dict[str, str], numbers: Container[str]) -> dict[str, str]:
    return {name: text.replace(",", ".") if name in numbers else text for name, text in row.items()}


def _line(before: str) -> int:
    return before.count("\n") + 1
