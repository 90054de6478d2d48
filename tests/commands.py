"""`python -m sdfsrn.<module> ...` for tests: run in a fork of a process that has imported the libraries.

Importing them takes most of a short command's time. All else is as a shell does it: folder, environment, arguments, output and
exit code are its own. Environment variables that libraries read while they are imported need a new Python, see `test_wheel.py`.
"""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any


def command(
    module: str, *arguments: str, cwd: pathlib.Path, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m sdfsrn.<module> <arguments>` in a folder.

    Raises:
        subprocess.TimeoutExpired: it was stopped after so many seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = {name: str(pathlib.Path(folder, name)) for name in ("stdout", "stderr")}
        asked = {"module": f"sdfsrn.{module}", "arguments": arguments, "cwd": str(cwd), "timeout": timeout, **output}
        server = _server()
        server.stdin.write(json.dumps(asked | {"environment": {**os.environ, **environment}}) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        texts = {name: pathlib.Path(path).read_text() for name, path in output.items()}
    asked_for = [sys.executable, "-m", asked["module"], *arguments]
    if code is None:
        raise subprocess.TimeoutExpired(asked_for, timeout, texts["stdout"], texts["stderr"])
    return subprocess.CompletedProcess(asked_for, code, **texts)


@functools.cache
def _server() -> Any:
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    atexit.register(process.kill)
    return process


def _serve() -> None:
    """Fork for each line of the standard input, and say how the fork ended: a code, or null where its time was over."""
    for line in sys.stdin:
        asked = json.loads(line)
        if (child := os.fork()) == 0:
            _enter(**asked)
            runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
            return
        sys.stdout.write(json.dumps(_wait(child, asked["timeout"])) + "\n")
        sys.stdout.flush()


def _enter(arguments: list[str], cwd: str, environment: Mapping[str, str], stdout: str, stderr: str, **_: Any) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, stdout, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.argv[1:], sys.path[0] = arguments, cwd


def _wait(child: int, timeout: float) -> int | None:
    signal.signal(signal.SIGALRM, lambda number, frame: os.killpg(child, signal.SIGKILL))
    signal.alarm(math.ceil(timeout))
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status) if signal.alarm(0) > 0 else None


if __name__ == "__main__":
    import sdfsrn.cli.building  # noqa: F401  # and with it Lightning, Hydra and all models

    _serve()
