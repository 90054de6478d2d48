"""python -m sdfsrn.prepare data=... data.root=...: make what a data set lacks, check every picture, draw contact sheets."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from sdfsrn.cli.command import command
from sdfsrn.data import FolderDataModule, ShapeNetDataModule, ViewsDataModule
from sdfsrn.data.alpha import describe_dropped
from sdfsrn.data.preparing.export import export_folder
from sdfsrn.data.preparing.inspection import contact_sheet, inspect
from sdfsrn.data.preparing.render_models import render_models
from sdfsrn.data.source import Source
from sdfsrn.poses.table import read_poses, take_over
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.files import write_atomically
from sdfsrn.runtime.seeds import seed_everything

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> dict[str, Any]:
    """Prepare as configured; the report, which is also shown and written to `report.json` beside one contact sheet per split.

    Raises:
        ValueError: settings that don't go together; after everything else is written, splits or pictures that cannot be used.
    """
    seed_everything(0)
    output = pathlib.Path(config.paths.output)
    output.mkdir(parents=True, exist_ok=True)
    datamodule = instantiate(config.data)
    report: dict[str, Any] = {} if config.models is None else {"models": _render(config, datamodule)}
    if config.poses is not None:
        report["poses"] = _take_over(config, datamodule)
    report["failures"] = datamodule.prepare(config.num_workers)
    sources: dict[str, Source] = {}
    problems = []
    for split in config.splits:
        try:
            sources[split] = datamodule.source(split)
        except ValueError as error:
            problems.append(str(error))
            continue
        report[split] = inspect(sources[split]) | {"counts": dict(getattr(sources[split], "counts", {}))}
        sheet = contact_sheet(sources[split], count=config.sheet, background=datamodule.settings.background)
        sheet.save(output / f"{split}.png")
    if datamodule.hull_depth:
        try:
            report["hull_depth"] = _carve(datamodule)
        except ValueError as error:
            problems.append(str(error))
    if not sources:
        raise ValueError(" ".join(dict.fromkeys(problems)))
    write_atomically(output / "report.json", json.dumps(report, indent=2).encode())
    show(report, list(sources))
    if config.export is not None:
        export_folder(sources, config.export)
        log.info("Exported to %s", config.export)
    log.info("Wrote the report and the contact sheets to %s", output)
    unusable = sum(len(report[split]["unusable"]) for split in sources)
    if unusable:
        problems.append(f"{unusable} pictures cannot be used, see {output / 'report.json'}.")
    if problems:
        raise ValueError(" ".join(dict.fromkeys(problems)))
    return report


def show(report: dict[str, Any], splits: list[str]) -> None:
    """Print the report as a table: counts, and faults with the first few names."""
    table = Table("split", "pictures", "with truth", "truth beside the silhouette", "to look at", title="Data set")
    for split in splits:
        part = report[split]
        truth = part["truth"]
        outside = f"{truth['outside_mean']:.2%} on average" if truth["objects"] else ""
        faults = [f"{fault}: {len(names)}, e.g. {pathlib.PurePath(names[0]).name}" for fault, names in part["faults"].items()]
        table.add_row(split, str(part["pictures"]), str(truth["objects"]), outside, "\n".join(faults) or "nothing")
    lines = [f"failed: {name}: {reason}" for name, reason in list(report["failures"].items())[:5]]
    lines += [f"{split}: {words}" for split in splits if (words := describe_dropped(**report[split]["dropped"]))]
    if "models" in report:
        models = report["models"]
        lines.append(", ".join(f"{number} {what}" for what, number in models.items() if isinstance(number, int)))
        incomplete = list(models["incomplete"].items())
        if incomplete:
            lines.append(f"{len(incomplete)} models lack colours; {incomplete[0][0]} names, but has not: {incomplete[0][1]}")
        lines += [f"skipped: {name}: {reason}" for name, reason in list(models["skipped"].items())[:5]]
    if "hull_depth" in report:
        hulls = report["hull_depth"]
        made = f"made in {hulls['seconds']:.1f} s" if hulls["seconds"] else "already there"
        lines.append(f"{hulls['pictures']} pictures with the depth of a visual hull, {made}: {hulls['file']}")
    table.caption = "\n".join(lines) or None
    Console().print(table)


def _take_over(config: DictConfig, datamodule: ViewsDataModule) -> int:
    """Put refined poses into the folder's table; how many."""
    if not isinstance(datamodule, FolderDataModule):
        raise ValueError("Expected data=folder with poses=FILE; export=FOLDER makes such a folder of any data set.")
    count = take_over(pathlib.Path(config.data.root), read_poses(config.poses), config.data.convention)
    log.info("Put %d refined poses into the table of %s; as it was: cameras_before.*", count, config.data.root)
    return count


def _carve(datamodule: ViewsDataModule) -> dict[str, Any]:
    """Make the depths of the training pictures' visual hulls, unless they are there."""
    hulls = datamodule.dataset("train").hull_depth
    assert hulls is not None  # of a data module that is to have them
    known = sum(bool(np.isfinite(depth).any()) for depth in hulls.depth)
    return {"pictures": known, "seconds": round(hulls.seconds, 3), "file": str(hulls.path)}


def _render(config: DictConfig, datamodule: ViewsDataModule) -> dict[str, Any]:
    """Render `models` into the data set's root."""
    if not isinstance(datamodule, ShapeNetDataModule):
        raise ValueError("Expected data=shapenet with models=FOLDER, since models are rendered in its layout.")
    options: Any = OmegaConf.to_container(config.render, resolve=True)
    return render_models(config.models, config.data.root, config.data.category, config.num_workers, **options)


main = command("prepare")(prepare)

if __name__ == "__main__":
    main()
