"""OpenMP's idle threads give way to other programs, unless the user has decided."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
REPORT = """
import json, os, subprocess, sys
{first}
import sdfsrn
code = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
print(json.dumps([os.environ.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")] + [child.stdout.strip()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "first", "expected"),
    [
        ({}, "", ["10000", None, "10000"]),
        ({"GOMP_SPINCOUNT": "7"}, "", ["7", None, "7"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "", [None, "ACTIVE", "None"]),
        ({}, "import torch", [None, None, "None"]),
    ],
    ids=["default", "count given", "policy given", "torch loaded before"],
)
def test_the_spin_count_is_set_before_torch_and_inherited(
    given: dict[str, str], first: str, expected: list[str | None]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES} | given
    done = subprocess.run([sys.executable, "-c", REPORT.format(first=first)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP")
def test_openmp_has_read_the_spin_count() -> None:
    """What the library itself displays when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    command = [sys.executable, "-c", "import sdfsrn"]
    done = subprocess.run(command, env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP than GNU's")
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr
