"""Pictures like photographs, and a client of the page's server, for the tests of the annotation page."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.data.source import ImageSample

POSE = {"azimuth": 30.0, "elevation": 10.0, "theta": 0.0}


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise whose amplitude falls with its frequency, as in photographs, in a random palette; (size, size, 3) uint8."""
    total = np.zeros((size, size, 3))
    for octave in range(2, int(np.log2(size)) + 1):
        mixed = rng.normal(0, 1, (2**octave, 2**octave, 3)) @ (0.4 * np.eye(3) + 0.3)
        total += ndimage.zoom(mixed, (size / 2**octave, size / 2**octave, 1), order=1)[:size, :size] / octave
    total = (total - total.mean((0, 1))) / total.std((0, 1)).mean()
    return (rng.uniform(70, 190, 3) + rng.uniform(20, 40) * total).clip(0, 255).astype(np.uint8)


def photograph(rng: np.random.Generator, picture: ImageSample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture's object before a texture, somewhere in a frame of `size` pixels, with noise; and its true silhouette."""
    side = round(0.7 * size)
    cut_out = Image.fromarray(np.dstack([picture.image, (picture.alpha * 255).astype(np.uint8)]))
    frame = Image.new("RGBA", (size, size))
    frame.paste(cut_out.resize((side, side), Image.Resampling.BICUBIC), tuple(rng.integers(0, size - side, 2).tolist()))
    image = Image.alpha_composite(Image.fromarray(texture(rng, size)).convert("RGBA"), frame).convert("RGB")
    noisy = np.asarray(image) + rng.normal(0, 4, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.asarray(frame.getchannel("A")) >= 128


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def write_discs(root: pathlib.Path, names: list[str], size: tuple[int, int] = (120, 90)) -> None:
    """Photographs of an orange disc of radius 20 about (70, 40)."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    for i, name in enumerate(names):
        image = np.random.default_rng(i).integers(60, 110, (height, width, 3), dtype=np.uint8)
        image[np.hypot(x - 70, y - 40) < 20] = (230, 140, 20)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)


class Client:
    """Talks to a server as the page does."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = {"X-Token": token}

    def __call__(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and content: decoded, if it is JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        self.connection.request(method, path, content, self.headers | {k.replace("_", "-"): v for k, v in headers.items()})
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if answer.getheader("Content-Type") == "application/json" else data

    def edit(self, index: int, **body: Any) -> dict[str, Any]:
        status, answer = self(f"/api/pictures/{index}/edits", body)
        assert status == 200, answer
        return answer


@contextlib.contextmanager
def serving(session: Session) -> Iterator[Client]:
    with Server(session) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Client(server.server_port, server.token)
        server.shutdown()


@contextlib.contextmanager
def opened(root: pathlib.Path, **options: Any) -> Iterator[Session]:
    session = Session(root, **options)
    try:
        yield session
    finally:
        session.close()
