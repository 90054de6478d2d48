"""docs/poses.md, "A few poses by hand": its commands and files, followed in an empty folder with less of everything."""

from __future__ import annotations

import ast
import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tiny import MODEL, PRETRAINING

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "poses.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALLER = {
    "prepare": ["data.num_objects=6", "data.shapes.image_size=32"],
    "train": [
        "data.batch_size=4",
        "data.num_rays=48",
        *MODEL,
        *PRETRAINING,
        "trainer.max_steps=20",
        "trainer.val_check_interval=20",
        "trainer=cpu",
    ],
    "annotate": [],
}


@pytest.mark.slow
def test_the_rest_of_the_poses_is_proposed(tmp_path: pathlib.Path) -> None:
    section = PAGE.read_text().partition("## A few poses by hand")[2]
    for language, file, content in BLOCK.findall(section):
        if language == "bash":
            for line in content.replace("\\\n", " ").splitlines():
                name = re.findall(r"-m sdfsrn\.(\w+)", line)[0]
                run(["bash", "-ec", " ".join([line, *SMALLER[name]])], tmp_path)
        else:
            (tmp_path / file).write_text(content.replace("len(rows), 24)", "len(rows), 8)"))
            printed = run([sys.executable, file], tmp_path)
    count, _, measured = printed.splitlines()[-1].partition(" ")
    rows = list(csv.DictReader((tmp_path / "few/cameras.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert {row["convention"] for row in rows} == {"nmr"}
    assert int(count) == 4
    values = ast.literal_eval(measured)
    assert 0 <= values["median"] <= 180
    assert values["raw_over_90"] in (0, 0.25, 0.5, 0.75, 1)


def run(command: list[str], folder: pathlib.Path) -> str:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
        "SDFSRN_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout
