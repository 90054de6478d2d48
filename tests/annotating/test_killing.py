"""A server that is killed: every acknowledged edit is there after the restart, and every file can be read."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import random
import signal
import sys
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photographs import POSE, Client, opened, write_discs
from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.data.sources.table import read_table

NAMES = ["a.png", "sub/b.png"]


def begin(root: pathlib.Path, dying: tuple[str, int] | None = None) -> tuple[int, Client]:
    """A server in a process of its own, forked so that nothing is imported again, and a client of it.

    `dying`, a method of Path and a number, kills it in the middle of that many-th call.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            server = Server(Session(root))
            if dying is not None:
                setattr(pathlib.Path, dying[0], dying_method(*dying))
            os.write(into, json.dumps([server.server_port, server.token]).encode() + b"\n")
            server.serve_forever()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    os.close(into)
    with os.fdopen(out) as file:
        return child, Client(*json.loads(file.readline()))


def dying_method(name: str, number: int) -> Any:
    method, calls = getattr(pathlib.Path, name), iter(range(1, 10**6))

    def call(path: pathlib.Path, *args: Any, **options: Any) -> Any:
        if next(calls) < number:
            return method(path, *args, **options)
        if name == "write_bytes":
            method(path, args[0][: len(args[0]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    return call


def random_edit(rng: random.Random) -> dict[str, Any]:
    def point() -> list[float]:
        return [rng.uniform(0, 120), rng.uniform(0, 90)]

    return rng.choice(
        [
            {"do": "pose", "pose": POSE | {"azimuth": rng.uniform(0, 360)}},
            {"do": "stroke", "add": rng.random() < 0.7, "radius": rng.uniform(2, 12), "points": [point(), point()]},
            {"do": "polygon", "add": True, "points": [point(), point(), point()]},
            {"do": "flag", "name": rng.choice(["unsure", "skipped", "cut_off"]), "value": rng.random() < 0.5},
            {"do": "undo"},
            {"do": "redo"},
            {"do": "clear"},
        ]
    )


def edit_until_killed(client: Client, rng: random.Random, known: list[Any]) -> tuple[int, dict[str, Any]]:
    """Edit without a pause; `known` gets the last acknowledged answer of each picture. The edit that was running."""
    while True:
        index, edit = rng.randrange(len(NAMES)), random_edit(rng)
        try:
            known[index] = client.edit(index, **edit)
        except (OSError, http.client.HTTPException):
            return index, edit


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("pose", "mask", "unsure", "cut_off", "undo", "redo", "state")}


def check(root: pathlib.Path, known: list[Any], running: tuple[int, dict[str, Any]]) -> list[Any]:
    """After the restart all is as acknowledged, or with the edit that was running; table and masks agree. What is there now."""
    with opened(root) as session:
        now = [session.draft(index) for index in range(len(NAMES))]
        for index, name in enumerate(NAMES):
            if plain(now[index]) != plain(known[index]):
                assert index == running[0]
                assert now[index]["undo"] != known[index]["undo"]
            assert not list((root / ".annotations" / name).glob("*.tmp"))
            if now[index]["mask"] is not None:
                mask = Image.open(root / "masks" / pathlib.Path(name).with_suffix(".png"))
                assert np.array_equal(np.asarray(mask), session.annotations.layers(index).mask)
    done = {NAMES[index]: answer["pose"]["azimuth"] for index, answer in enumerate(now) if answer["state"] == "done"}
    rows = read_table(root, None) if done else []
    assert {row.image: pytest.approx(row.pose.angles[0], abs=1e-3) for row in rows} == done
    return now


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    write_discs(tmp_path, NAMES)
    return tmp_path


def killed(root: pathlib.Path, rng: random.Random, known: list[Any], seconds: float | None, dying: Any = None) -> list[Any]:
    """One server's life: until the time is up, or until it dies by itself. What is there after the restart."""
    child, client = begin(root, dying)
    timer = threading.Timer(seconds or 30, os.kill, (child, signal.SIGKILL))
    timer.start()
    running = edit_until_killed(client, rng, known)
    timer.cancel()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    return check(root, known, running)


def test_killed_at_random_moments(root: pathlib.Path) -> None:
    rng = random.Random(0)
    with opened(root) as session:
        known = [session.draft(index) for index in range(len(NAMES))]
    for _ in range(20):
        known = killed(root, rng, known, rng.uniform(0.02, 0.3))
    assert sum(answer["undo"] + answer["redo"] for answer in known) > 20


@pytest.mark.parametrize("name", ["write_bytes", "replace", "unlink"])
def test_killed_in_the_middle_of_every_kind_of_write(root: pathlib.Path, name: str) -> None:
    """A file half written; whole, but not in its place; in its place, but not the next."""
    rng = random.Random(1)
    with opened(root) as session:
        known = [session.draft(index) for index in range(len(NAMES))]
    for number in range(1, 13):
        known = killed(root, rng, known, None, (name, number))
