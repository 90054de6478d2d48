"""Evaluation of a trained model on a split: one row per object, a summary with references, meshes, pictures and a report.

Written into the output folder:

    metrics.csv                 one row per object; metrics_before.csv: before test-time optimization, if that is on
    summary.json                what was evaluated, statistics over objects, counts, protocol, version, references
    meshes/<number>_<name>.*    predictions, world frame
    truth/<number>_<name>.ply   ground truth points, at most 10,000
    pictures/<number>_<name>.png   input, rendered RGB, mask, depth and normals, side by side
    gallery.png, turntable.png  the first objects
    report.html                 all of it in one page, with the best, middle, worst and failed objects in 3D
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from sdfsrn.data.source import Source
from sdfsrn.evaluation.measuring import metric_names
from sdfsrn.evaluation.references import reference_shapes, reference_statistics
from sdfsrn.evaluation.report import report_evaluation
from sdfsrn.evaluation.results import EvaluationOptions, object_count, results
from sdfsrn.evaluation.summary import Row, show, statistics, summarize, write_rows
from sdfsrn.evaluation.writers import GALLERY, GalleryEntry, gallery_entry, write_galleries, write_result
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.runtime.files import write_atomically
from sdfsrn.runtime.progress import track
from sdfsrn.system import ShapeModel


def evaluate(
    model: ShapeModel,
    source: Source,
    protocol: EvaluationProtocol,
    output: pathlib.Path,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Reconstruct and measure the pictures of a split, write the files above, print the summary and return it."""
    model.eval()
    options = options or EvaluationOptions()
    shapes = reference_shapes(options.reference, protocol)
    rows: list[Row] = []
    before: list[Row] = []
    scores: dict[str, list[Row]] = {name: [] for name in shapes}
    entries: list[GalleryEntry] = []
    objects = results(model, source, protocol, shapes, options)
    for result in track(objects, "Evaluating", object_count(source, options), "objects"):
        rows.append(write_result(result, output, options.formats))
        before.append(result.before)
        for name, row in result.references.items():
            scores[name].append(row)
        if result.reconstruction is not None and result.row.number < GALLERY:
            entries.append(gallery_entry(result.row, result.reconstruction))
    write_galleries(entries, output)
    write_rows(rows, metric_names(protocol), output / "metrics.csv")
    summary = {"about": dict(options.about), **summarize(rows, protocol)}
    if options.refine is not None:
        write_rows(before, metric_names(protocol), output / "metrics_before.csv")
        summary["before_optimization"] = statistics(before, protocol.seed)
    summary["references"] = reference_statistics(shapes, scores, protocol)
    write_atomically(output / "summary.json", json.dumps(summary, indent=2).encode())
    report_evaluation(output)
    show(summary)
    return summary
