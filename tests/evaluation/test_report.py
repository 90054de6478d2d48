"""The report of an output folder: which objects it shows, and their meshes from whichever files there are."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import zlib
from typing import Any

import numpy as np
import pytest
import trimesh

from sdfsrn import EvaluationProtocol
from sdfsrn.evaluation.measuring import metric_names
from sdfsrn.evaluation.previews import HEADINGS
from sdfsrn.evaluation.report import choose, report_evaluation
from sdfsrn.evaluation.summary import Row, file_stem, read_rows, show, summarize, write_rows
from sdfsrn.meshes.figures import hstack
from sdfsrn.meshes.io import write_mesh

COLOR = (200, 90, 20)


def scored(count: int) -> list[Row]:
    return [Row(i, f"o{i}", "ok", {"chamfer": (7 * i % count) / count}, 8, 12, f"{i:04d}_o{i}") for i in range(count)]


def test_best_middle_and_worst_are_shown_and_those_without_numbers() -> None:
    rows = scored(100)
    others = ("failure: no surface", "no ground truth", "unreadable: x.png")
    rows += [Row(100 + i, "x", status, {}) for i, status in enumerate(others)]
    chosen = choose(rows, ["chamfer"], shown=3)
    ranks = sorted(round(100 * rows[i].values["chamfer"]) for i in chosen if rows[i].values)
    assert ranks == [0, 1, 2, 49, 50, 51, 97, 98, 99]
    assert [rows[i].status for i in chosen if not rows[i].values] == list(others[:2])  # an unreadable one has no pictures
    assert choose(rows[100:102], [], shown=1) == [0]
    assert choose([], ["chamfer"]) == []


def report_content(output: pathlib.Path, rows: list[Row], suffixes: tuple[str, ...]) -> dict[str, Any]:
    """The content of the report of such rows, with files of a coloured box for each row that has a mesh."""
    box = trimesh.creation.box((0.4, 0.6, 0.8))
    box.visual.vertex_colors = np.tile([*COLOR, 255], (8, 1)).astype(np.uint8)
    (output / "pictures").mkdir(parents=True)
    for row in rows:
        hstack([np.full((4, 4, 3), 9, np.uint8)] * len(HEADINGS)).save(
            output / "pictures" / f"{file_stem(row.number, row.name)}.png"
        )
        for suffix in suffixes if row.faces else ():
            write_mesh(box, output / "meshes" / f"{row.mesh}{suffix}")
    summary = {"about": {"checkpoint": "best.ckpt"}, **summarize(rows, EvaluationProtocol()), "references": {}}
    write_rows(rows, metric_names(EvaluationProtocol()), output / "metrics.csv")
    (output / "summary.json").write_text(json.dumps(summary))
    page = report_evaluation(output).read_text()
    return json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_any_kind_of_file_will_do(tmp_path: pathlib.Path, suffix: str) -> None:
    content = report_content(tmp_path / "run", scored(2), (suffix,))
    assert content["facts"]["checkpoint"] == "best.ckpt"
    for found in content["objects"].values():
        assert found["written"]
        assert found["mesh"]["size"] == "12 faces"
        np.testing.assert_allclose(found["mesh"]["extent"], [0.4, 0.6, 0.8], atol=1e-5)
        colors = np.frombuffer(zlib.decompress(base64.b64decode(found["mesh"]["colors"])), np.uint8).reshape(-1, 3)
        np.testing.assert_allclose(colors, np.tile(COLOR, (len(colors), 1)), atol=3)  # linear ones of GLB are rounded


def test_a_mesh_without_file_is_not_taken_for_one_without_surface(tmp_path: pathlib.Path) -> None:
    rows = [scored(1)[0]._replace(mesh=""), Row(1, "x", "failure: no surface", {})]
    ok, failure = report_content(tmp_path / "run", rows, ())["objects"].values()
    assert (ok["mesh"], ok["written"]) == (None, False)
    assert (failure["mesh"], failure["written"]) == (None, True)


def test_no_word_of_the_table_is_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    summary = summarize(scored(9), EvaluationProtocol())
    references = dict.fromkeys(("untrained sphere", "best constant shape", "visual hull"), summary)
    show({**summary, "references": references, "before_optimization": summary})
    words = capsys.readouterr().out.split()
    assert {"sphere", "constant", "shape", "visual", "hull", "before", "median"} <= set(words)


def test_lower_colour_errors_are_better(tmp_path: pathlib.Path) -> None:
    rows = [row._replace(values={"color_error": 0.1, "silhouette_iou": 0.9}) for row in scored(3)]
    metrics = report_content(tmp_path / "run", rows, (".ply",))["metrics"]
    assert {name: metric["higher_is_better"] for name, metric in metrics.items()} == {
        "color_error": False,
        "silhouette_iou": True,
    }


def test_rows_are_read_as_they_were_written(tmp_path: pathlib.Path) -> None:
    """Numbers to the last bit; words with commas, quotes and line breaks."""
    values = {"accuracy": 1 / 3, "chamfer": 1e-17, "depth_error": 2.0}
    rows = [
        Row(3, 'a, "b"\nc', "failure: x, y", {}),
        Row(4, "d", "ok", values, 8, 12, "0004_d"),
        Row(5, "e", "", {"chamfer": 0.0}),
    ]
    write_rows(rows, metric_names(EvaluationProtocol()), tmp_path / "metrics.csv")
    assert read_rows(tmp_path / "metrics.csv") == rows
    older = [name for name in metric_names(EvaluationProtocol()) if name != "color_error"]
    write_rows(rows, older, tmp_path / "metrics.csv")
    assert read_rows(tmp_path / "metrics.csv") == rows  # a measure that is new since
    write_rows([], ["chamfer"], tmp_path / "metrics.csv")
    assert read_rows(tmp_path / "metrics.csv") == []
