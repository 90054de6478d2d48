"""MATLAB files, read by a process of their own: a broken one can crash scipy's reader, which no exception tells."""

from __future__ import annotations

import functools
import os
import pathlib
import pickle
import subprocess
import sys
from typing import Any

READER = """
import pickle, sys
import scipy.io
while True:
    try:
        path = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False), ""
    except Exception as error:
        answer = None, f"{type(error).__name__}: {error}"
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


def read_mat(path: pathlib.Path) -> dict[str, Any]:
    """The variables of a file; structures are objects with their fields as attributes.

    Raises:
        ValueError: a file that scipy does not read, or on which its reader crashes.
    """
    reader = _reader(os.getpid())
    try:
        pickle.dump(str(path.absolute()), reader.stdin)
        reader.stdin.flush()
        variables, trouble = pickle.load(reader.stdout)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        reader.kill()
        _reader.cache_clear()
        raise ValueError("it crashes the reader") from error
    if variables is None:
        raise ValueError(trouble)
    return variables


@functools.cache
def _reader(process: int) -> Any:
    """One for each process that asks, also after a fork; it ends when that one does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", READER], **pipes)  # type: ignore[call-overload]
