"""Text and tables of other programs: what Excel, editors and shells write."""

from __future__ import annotations

import pathlib

import pytest

from sdfsrn.runtime.texts import decode, read_json, read_text, table_rows

NUMBERS = ("azimuth", "scale")
ROWS = [["image", "azimuth", "scale"], ["Stühle.png", "12,5", "-0,7"], ["b c.png", "1,2E+01", "1"]]
WANTED = [
    ("row 2", {"image": "Stühle.png", "azimuth": "12.5", "scale": "-0.7"}),
    ("row 3", {"image": "b c.png", "azimuth": "1.2E+01", "scale": "1"}),
]


def written(separator: str, end: str = "\r\n") -> str:
    return "".join(separator.join(row) + end for row in ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_of_excel_in_any_encoding(encoding: str, separator: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cameras.csv"
    path.write_bytes(written(separator).encode(encoding))
    assert table_rows(read_text(path), NUMBERS) == WANTED


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_orders_of_utf_16_are_told_by_the_mark(order: str) -> None:
    mark, encoding = {"little": (b"\xff\xfe", "utf-16-le"), "big": (b"\xfe\xff", "utf-16-be")}[order]
    assert decode(mark + "Stühle 椅子".encode(encoding)) == "Stühle 椅子"


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_lines_may_end_in_any_way(end: str) -> None:
    assert table_rows(written(";", end), NUMBERS) == WANTED


def test_what_else_excel_adds() -> None:
    """A line that names the separator, empty columns and rows, quotes."""
    text = 'sep=;\r\nimage;azimuth;scale;;\r\n;;;;\r\n"a;b.png";"12,5";;;\r\nc.png;1;;\r\n'
    wanted = [("row 4", {"image": "a;b.png", "azimuth": "12.5"}), ("row 5", {"image": "c.png", "azimuth": "1"})]
    assert table_rows(text, NUMBERS) == wanted


def test_points_and_names_with_commas_stay() -> None:
    assert table_rows("image;scale\na,b.png;0.5\n", NUMBERS) == [("row 2", {"image": "a,b.png", "scale": "0.5"})]
    assert table_rows('image,scale\n"a;b,c.png",0.5\n', NUMBERS) == [("row 2", {"image": "a;b,c.png", "scale": "0.5"})]
    assert table_rows('image,scale\na.png,"0,5"\n', NUMBERS) == [("row 2", {"image": "a.png", "scale": "0,5"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04xl/workbook.xml", "got a workbook.*CSV UTF-8"),
        (b"image,azimuth\na.png,1\n\x81\x8d.png,2\n", "line 3 in an unknown encoding.*CSV UTF-8"),
        (b"image,azimuth\na\x00.png,1\n", "other bytes in line 2"),
        ("image,azimuth".encode("utf-16-le"), "other bytes in line 1"),
        (b"\xff\xfei\x00m", "line 1 in an unknown encoding"),
    ],
)
def test_what_stays_unreadable_is_told_with_the_line(content: bytes, message: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "cameras.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"Could not read text from .*cameras.csv: .*{message}"):
        read_text(tmp_path / "cameras.csv")


def test_decimal_commas_between_commas_are_explained() -> None:
    with pytest.raises(ValueError, match=r"expected 3 cells as in the first row, got 5 in row 2 \(numbers with decimal commas"):
        table_rows(written(","), NUMBERS)


def test_json_may_have_a_mark_and_errors_name_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"ü": 1}'.encode("utf-16"))
    assert read_json(path) == {"ü": 1}
    for content in (b"{", b"[" * 100_000, b"\x00"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Could not read JSON from .*a\.json: [^\n]*$"):
            read_json(path)
