"""Kernels in Triton's interpreter, on the CPU; in a process without checked annotations, which would check them as well."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest


def interpreted(script: str, cases: dict[str, Any]) -> dict[str, Any]:
    """What a script prints as JSON, that reads the cases as JSON."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("NO KERNEL CHECKED: TRITON IS NOT INSTALLED")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=json.dumps(cases), capture_output=True, text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
