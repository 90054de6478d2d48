"""`python -m sdfsrn.annotate` as a user starts, stops and starts it again."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from photographs import POSE, Client, write_discs
from sdfsrn.annotate import _open_server
from sdfsrn.annotating.session import Session


def start(root: pathlib.Path, *overrides: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "sdfsrn.annotate", f"data.root={root}", "open=false", *overrides]
    folder = root.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow  # starts a process
def test_it_starts_refuses_a_second_and_stops(tmp_path: pathlib.Path) -> None:
    """The command writes to the folder only."""
    root = tmp_path / "birds"
    write_discs(root, ["a.png"])
    process = start(root)
    try:
        line = next(text for text in process.stdout if "The page is at" in text)
        port, token = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", line).groups()
        client = Client(int(port), token)
        assert client.edit(0, do="pose", pose=POSE)["undo"] == 1
        with pytest.raises(ValueError, match="another annotation page"):
            Session(root)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
    session = Session(root)
    assert session.draft(0)["undo"] == 1
    session.close()
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.slow  # starts three processes
def test_what_cannot_be_is_said_in_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    for root, overrides in ((tmp_path / "gone", ()), (tmp_path / "empty", ()), (tmp_path / "empty", ("propose=true",))):
        process = start(root, *overrides)
        output = process.communicate(timeout=120)[0].splitlines()
        assert process.returncode == 1
        assert [line[:16] for line in output] == ["error: Expected "]


def test_the_address_lasts_as_long_as_the_pictures_are_the_same(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])

    def address(port: int | None = None) -> tuple[int, str]:
        session = Session(tmp_path)
        with _open_server(session, port) as server:
            found = server.server_port, server.token
        session.close()
        return found

    first = address()
    assert address() == first
    assert os.stat(tmp_path / ".annotations" / "address.json").st_mode & 0o077 == 0  # noqa: PTH116
    write_discs(tmp_path, ["b.png"])
    second = address(first[0])
    assert second[0] == first[0]
    assert second[1] != first[1]
