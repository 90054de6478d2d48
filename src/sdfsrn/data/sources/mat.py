"""MATLAB files, read by a process of their own: a broken one can crash scipy's reader, which no exception tells."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

READER = """
import json, sys
import numpy, scipy.io

def plain(value):
    if hasattr(value, "_fieldnames"):
        return {name: plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, numpy.ndarray) and value.ndim:
        return [plain(part) for part in value]
    return value.item() if isinstance(value, numpy.ndarray | numpy.generic) else value

for line in sys.stdin:
    try:
        content = scipy.io.loadmat(json.loads(line), squeeze_me=True, struct_as_record=False)
        variables = {name: plain(value) for name, value in content.items() if not name.startswith("__")}
        answer = json.dumps(["", variables], default=str)
    except Exception as error:
        answer = json.dumps([f"{type(error).__name__}: {error}", {}])
    print(answer, flush=True)
"""


def read_mat(path: pathlib.Path) -> dict[str, Any]:
    """The variables of a file: structures with their fields as attributes, lists, numbers and texts.

    Raises:
        ValueError: a file that scipy does not read, or on which its reader crashes.
    """
    reader = _reader(os.getpid())
    try:
        reader.stdin.write(json.dumps(str(path.absolute())) + "\n")
        reader.stdin.flush()
        trouble, variables = json.loads(reader.stdout.readline(), object_hook=lambda fields: SimpleNamespace(**fields))
    except (OSError, ValueError) as error:
        reader.kill()
        _reader.cache_clear()
        raise ValueError("it crashes the reader") from error
    if trouble:
        raise ValueError(trouble)
    return vars(variables)


@functools.cache
def _reader(process: int) -> Any:
    """One for each process that asks, also after a fork; it ends when that one does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", READER], text=True, **pipes)  # type: ignore[call-overload]
