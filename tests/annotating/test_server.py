"""The page's server: who is answered, and what."""

from __future__ import annotations

import http.client
import io
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from photographs import POSE, Client, opened, serving, write_discs
from sdfsrn.annotating.server import LARGEST, Server


@pytest.fixture
def client(tmp_path: pathlib.Path) -> Iterator[Client]:
    write_discs(tmp_path / "birds", ["a.png", "ü #[1],=.jpg"])
    (tmp_path / "birds" / "broken.png").write_bytes(b"nothing")
    with opened(tmp_path / "birds") as session, serving(session) as client:
        yield client


def test_a_picture_is_annotated(client: Client) -> None:
    status, state = client("/api/state")
    assert status == 200
    assert state["root"] == "birds"
    assert [picture["name"] for picture in state["pictures"]] == ["a.png", "broken.png", "ü #[1],=.jpg"]
    image = Image.open(io.BytesIO(client("/api/pictures/2/image")[1]))
    assert (image.format, image.size) == ("JPEG", (120, 90))
    assert max(Image.open(io.BytesIO(client("/api/pictures/2/thumbnail")[1])).size) == 120
    answer = client.edit(2, do="polygon", add=True, points=[[10, 10], [60, 10], [60, 50], [10, 50]], seconds=2.5)
    mask = Image.open(io.BytesIO(client(f"/api/pictures/2/mask?version={answer['mask']}")[1]))
    assert (mask.mode, mask.size) == ("L", (120, 90))
    assert np.asarray(mask)[10:50, 10:60].min() == 255
    assert np.asarray(mask).mean() == pytest.approx(255 * 2000 / 10800, rel=0.1)
    answer = client.edit(2, do="pose", pose=POSE | {"azimuth": -30, "theta": 270, "scale": None, "x": None, "y": None})
    assert answer["pose"] == {"azimuth": 330, "elevation": 10, "theta": -90, "scale": None, "x": None, "y": None}
    assert (answer["state"], answer["seconds"]) == ("done", 2.5)
    assert client("/api/pictures/2")[1] == answer
    assert client("/api/review")[1] == {"sheet": [2], "look": []}
    assert client("/api/pictures/2/shape")[0] == 404


def test_the_page_is_served(client: Client) -> None:
    status, html = client("/")
    assert status == 200
    assert html.lower().startswith(b"<!doctype html>")
    assert client("/page/index.html")[1] == html
    for name in ("", "..", "../server.py", "..%2fserver.py", "%2e%2e/server.py", "/etc/passwd", "sub/index.html", "server.py"):
        assert client(f"/page/{name}")[0] == 404


def test_the_browser_keeps_pictures_only_as_long_as_they_are_the_same(client: Client, tmp_path: pathlib.Path) -> None:
    def tag(path: str, known: str = "") -> tuple[int, str]:
        client.connection.request("GET", path, headers=client.headers | {"If-None-Match": known})
        answer = client.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("ETag")

    for what in ("image", "thumbnail", "mask"):
        first = tag(f"/api/pictures/0/{what}")[1]
        assert tag(f"/api/pictures/0/{what}", first) == (304, first)
        if what == "mask":
            client.edit(0, do="box", box=[0, 0, 50, 50])
        else:
            write_discs(tmp_path / "birds", ["b.png", "a.png"])
        assert tag(f"/api/pictures/0/{what}", first)[0] == 200


def raw(port: int, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def test_strangers_are_refused(client: Client) -> None:
    port, token = client.connection.port, client.headers["X-Token"]
    paths = ("/", "/page/index.html", "/api/state", "/api/pictures/0", "/api/pictures/0/image", "/api/pictures/0/mask")
    for path in paths:
        for wrong in ({}, {"X-Token": token[:-1]}, {"X-Token": "ü"}, {"Cookie": f"sdfsrn-{port}={token}x"}, {"Cookie": '"'}):
            client.headers = wrong
            assert client(path)[0] == 403
    for path in paths:
        for right in ({"X-Token": token}, {"Cookie": f"other=1; sdfsrn-{port}={token}"}):
            client.headers = right
            assert client(path)[0] == 200
    client.headers = {}
    assert client(f"/?token={token}")[0] == 200
    edit = {"do": "pose", "pose": POSE}
    for wrong in ({"Cookie": f"sdfsrn-{port}={token}"}, {"X-Token": token, "Origin": "http://evil.example"}):
        client.headers = wrong
        assert client("/api/pictures/0/edits", edit)[0] == 403
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"[::1]:{port}", ""):
        answer = raw(port, f"GET /api/state HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\nConnection: close\r\n\r\n")
        assert b" 403 " in answer.splitlines()[0]
    client.headers = {"X-Token": token}
    assert client("/api/pictures/0")[1]["undo"] == 0


def test_the_address_sets_a_cookie_that_scripts_cannot_read(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.connection.port)
    connection.request("GET", f"/?token={client.headers['X-Token']}")
    answer = connection.getresponse()
    cookie = answer.getheader("Set-Cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    answer.read()
    connection.request("GET", "/api/state", headers={"Cookie": cookie.partition(";")[0]})
    assert connection.getresponse().status == 200


def test_it_listens_on_the_loopback_only(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])
    with opened(tmp_path) as session, Server(session) as server, Server(session) as other:
        assert server.server_address[0] == "127.0.0.1"
        assert server.token != other.token
        with pytest.raises(ValueError, match=f"port {server.server_port}"):
            Server(session, server.server_port)


WRONG = [
    {},
    {"do": "everything"},
    {"do": ["box"]},
    {"do": "box"},
    {"do": "box", "box": [1, 2, 3]},
    {"do": "box", "box": [1, 2, 3, "4"]},
    {"do": "box", "box": [1, 2, 3, float("nan")]},
    {"do": "box", "box": [1, 2, 3, 1e300]},
    {"do": "stroke", "points": [[1, 2]]},
    {"do": "stroke", "points": [[1, 2]], "radius": 0},
    {"do": "stroke", "points": [[1, 2]], "radius": 1e4},
    {"do": "stroke", "points": [[1, 2]], "radius": 5, "add": "yes"},
    {"do": "stroke", "points": [], "radius": 5},
    {"do": "stroke", "points": [[1, 2, 3]], "radius": 5},
    {"do": "stroke", "points": [[1, True]], "radius": 5},
    {"do": "stroke", "points": [[1, 2]] * 20_001, "radius": 5},
    {"do": "polygon", "points": [[1, 2], [3, 4]]},
    {"do": "pose"},
    {"do": "pose", "pose": {"azimuth": 1}},
    {"do": "pose", "pose": POSE | {"roll": 3}},
    {"do": "pose", "pose": POSE | {"elevation": 91}},
    {"do": "pose", "pose": POSE | {"azimuth": None}},
    {"do": "pose", "pose": POSE | {"scale": -1}},
    {"do": "pose", "pose": POSE | {"x": 0.5}},
    {"do": "flag", "name": "gone", "value": True},
    {"do": "flag", "name": "unsure", "value": 1},
    {"do": "clear", "seconds": "many"},
    [1, 2],
    "text",
]


@pytest.mark.parametrize("body", WRONG, ids=lambda body: str(body)[:60])
def test_wrong_edits_are_refused_in_one_line(client: Client, body: Any) -> None:
    status, answer = client("/api/pictures/0/edits", body)
    assert status == 400
    assert answer["error"].startswith("Expected ")
    assert "\n" not in answer["error"]
    assert client("/api/pictures/0")[1]["undo"] == 0


def test_wrong_requests_are_refused(client: Client) -> None:
    assert client("/api/pictures/0/edits", b"{" * 5000)[0] == 400
    assert client("/api/pictures/0/edits", b"\xff")[0] == 400
    for path in ("3", "-1", "0x1", "99999999999999", "0/secret", "0/image/../..", "0/Image"):
        assert client(f"/api/pictures/{path}")[0] == 404
    assert client("/api/pictures/0", {"do": "clear"})[0] == 404
    assert client("/api/pictures/1/image")[0] == 400
    status, answer = client("/api/pictures/1/edits", {"do": "pose", "pose": POSE})
    assert status == 400
    assert "broken.png" in answer["error"]
    port, head = client.connection.port, f"Host: 127.0.0.1:{client.connection.port}\r\nX-Token: {client.headers['X-Token']}\r\n"
    post = f"POST /api/pictures/0/edits HTTP/1.1\r\n{head}"
    assert b" 413 " in raw(port, f"{post}Content-Length: {LARGEST + 1}\r\n\r\n").splitlines()[0]
    assert b" 411 " in raw(port, f"{post}\r\n").splitlines()[0]
    assert b" 411 " in raw(port, f"{post}Content-Length: -5\r\n\r\n").splitlines()[0]
    assert b" 501 " in raw(port, f"PUT / HTTP/1.1\r\n{head}\r\n").splitlines()[0]
    assert client("/api/state")[0] == 200


def test_edits_of_many_clients_at_once_are_all_done(client: Client) -> None:
    """Four of one picture and four of another: nothing is lost in its history."""

    def work(worker: int) -> None:
        mine = Client(client.connection.port, client.headers["X-Token"])
        for i in range(10):
            mine.edit(worker % 2 * 2, do="pose", pose=POSE | {"azimuth": 40 * worker + i})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 2):
        assert client(f"/api/pictures/{index}")[1]["undo"] == 40
