"""An annotator for tests: photos of built-in chairs, the page in a browser, and mouse or keys that outline and turn.

python annotator.py FOLDER PORT SECONDS serves a folder in processes that may be killed, whose numbers it writes.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable

import contourpy
import numpy as np
from PIL import Image
from scipy import ndimage

from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.synthetic import SyntheticSource

TOKEN = "of-the-tests"
SIZE = (480, 384)  # of photos, in pixels
SIDE = 320  # of the chairs on them
SETTLED = (
    "() => window.annotation?.draft && annotation.outbox.items.length === 0 && !annotation.posing.isChanged && annotation.mask"
)


def chair_photos(cache: pathlib.Path, count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Colours (h, w, 3) and silhouettes (h, w) of chairs over textured backgrounds, each at its own place."""
    settings = {"image_size": 160, "projection": "orthographic", "supersampling": 3, "cache": str(cache)}
    source = SyntheticSource("chair", "train", count, 1, **settings)
    rng = np.random.default_rng(0)
    photos = []
    for index in range(count):
        picture = source.picture(index)
        alpha = np.zeros(SIZE[::-1])
        color = texture(rng)
        x, y = rng.integers(10, [SIZE[0] - SIDE - 10, SIZE[1] - SIDE - 10])
        there = (slice(y, y + SIDE), slice(x, x + SIDE))
        alpha[there] = resize(picture.alpha, SIDE)
        chair = np.dstack([resize(picture.image[..., channel], SIDE) for channel in range(3)])
        color[there] += alpha[there][..., None] * (chair - color[there])
        photos.append((color.clip(0, 255).astype(np.uint8), alpha))
    return photos


def resize(values: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))


def texture(rng: np.random.Generator) -> np.ndarray:
    """A background of soft greenish blots and grain."""
    blots = Image.fromarray(rng.integers(90, 190, (9, 12, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    return np.asarray(blots) * np.array([0.6, 1.0, 0.7]) + rng.normal(0, 6, (*SIZE[::-1], 3))


def write_photos(root: pathlib.Path, photos: list[tuple[np.ndarray, np.ndarray]]) -> pathlib.Path:
    root.mkdir()
    for number, (color, _) in enumerate(photos):
        Image.fromarray(color).save(root / f"chair_{number}.png")
    return root


class Serving:
    """A server of a folder, in this process."""

    def __init__(self, root: pathlib.Path) -> None:
        self.session = Session(root)
        self.server = Server(self.session)
        self.server.token = TOKEN
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return self.server.address

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.session.close()


def outlines(alpha: np.ndarray, tolerance: float) -> list[tuple[bool, np.ndarray]]:
    """Closed polygons around a silhouette, and whether each adds (or is a hole), larger ones first."""
    padded = np.pad(alpha, 1)
    lines = [line[:-1] - 0.5 for line in contourpy.contour_generator(z=padded).lines(0.5)]
    areas = [signed_area(line) for line in lines]
    outer = np.sign(areas[int(np.argmax(np.abs(areas)))])
    order = np.argsort(-np.abs(areas))
    return [(bool(np.sign(areas[i]) == outer), simplify(lines[i], tolerance)) for i in order if abs(areas[i]) > 12]


def signed_area(points: np.ndarray) -> float:
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Ramer-Douglas-Peucker on a closed line, cut at the point that is farthest from the first."""
    middle = int(np.argmax(np.linalg.norm(points - points[0], axis=1)))
    there = _simplify(points[: middle + 1], tolerance)
    back = _simplify(np.vstack([points[middle:], points[:1]]), tolerance)
    return np.vstack([there[:-1], back[:-1]])


def _simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    if len(points) < 3:
        return points
    along = points[-1] - points[0]
    normal = np.array([-along[1], along[0]]) / max(np.linalg.norm(along), 1e-9)
    away = np.abs((points - points[0]) @ normal)
    worst = int(away.argmax())
    if away[worst] <= tolerance:
        return points[[0, -1]]
    return np.vstack([_simplify(points[: worst + 1], tolerance)[:-1], _simplify(points[worst:], tolerance)])


def apart(polygon: np.ndarray, distance: float) -> np.ndarray:
    """A polygon that begins at a corner with no other within `distance`: coming near the first corner closes it."""
    between = np.linalg.norm(polygon[:, None] - polygon, axis=2) + 1e9 * np.eye(len(polygon))
    first = int(between.min(1).argmax())
    turned = np.roll(polygon, -first, axis=0)
    return turned[np.r_[True, np.linalg.norm(turned[1:] - turned[0], axis=1) > distance]]


def serve(root: pathlib.Path, port: int, slowness: float) -> None:
    """Serve a folder in this process for good; edits take `slowness` seconds longer."""
    session = Session(root)
    edit = session.edit

    def slow_edit(*args):
        time.sleep(slowness)
        answer = edit(*args)
        time.sleep(slowness)
        return answer

    session.edit = slow_edit
    server = Server(session, port)
    server.token = TOKEN
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    server.serve_forever()


def serve_again_and_again(root: pathlib.Path, port: int, slowness: float) -> None:
    """Serve a folder in children, forked so that nothing is imported again; after each that is killed, another."""
    while True:
        child = os.fork()
        if child == 0:
            serve(root, port, slowness)
        os.waitpid(child, 0)
        time.sleep(0.3)


class Annotator:
    """A person at the page."""

    def __init__(self, page, serving: Serving | None = None) -> None:
        self.page = page
        self.serving = serving

    def settle(self) -> None:
        """Wait until everything is saved and shown."""
        self.page.wait_for_function(SETTLED)
        self.page.wait_for_function("() => annotation.maskShown === annotation.draft.mask")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the picture is in the window."""
        box = self.page.locator("#stage").bounding_box()
        left, top = self.page.evaluate("([x, y]) => annotation.stage.view.toStage(x, y)", [float(x), float(y)])
        return box["x"] + left, box["y"] + top

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
        """From one pixel of the picture to another."""
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down(button=button)
        self.page.mouse.move(*self.at(*end), steps=4)
        self.page.mouse.up(button=button)

    def opacity(self, *points: tuple[float, float]) -> list[int]:
        """The overlay's opacity at pixels of the picture, 0 to 255."""
        return self.page.evaluate(
            """(points) => {
                const canvas = new OffscreenCanvas(annotation.current.width, annotation.current.height);
                const context = canvas.getContext('2d', { willReadFrequently: true });
                context.drawImage(annotation.mask.canvas, 0, 0);
                return points.map(([x, y]) => context.getImageData(x, y, 1, 1).data[3]);
            }""",
            [list(point) for point in points],
        )

    def outline_by_mouse(self, alpha: np.ndarray) -> None:
        """Click the outlines of a silhouette; right clicks cut out its holes."""
        self.page.click("[data-action=polygon]")
        zoom = self.page.evaluate("annotation.stage.view.zoom")
        left, top = self.at(0, 0)
        for adds, polygon in outlines(alpha, 0.5):
            polygon = apart(polygon, 10 / zoom)
            for x, y in [*polygon, polygon[0]]:
                self.page.mouse.click(left + zoom * x, top + zoom * y, button="left" if adds else "right")
        self.settle()

    def correct_by_mouse(self, alpha: np.ndarray, read: Callable[[], np.ndarray], most: int) -> None:
        """Outline the largest places, at most so many, where the saved mask is wrong."""
        self.page.click("[data-action=polygon]")
        mask = read() > 0.5
        wrong, count = ndimage.label(mask != (alpha > 0.5))
        sizes = ndimage.sum_labels(wrong > 0, wrong, np.arange(1, count + 1))
        for number in 1 + np.argsort(-sizes)[:most]:
            place = (wrong == number).astype(float)
            button = "right" if mask[wrong == number].all() else "left"
            polygon = outlines(place, 0.5)[0][1]
            self.page.mouse.move(*self.at(*polygon.mean(0)))
            self.page.mouse.wheel(0, -800)
            polygon = apart(polygon, 10 / self.page.evaluate("annotation.stage.view.zoom"))
            for x, y in [*polygon, polygon[0]]:
                self.page.mouse.click(*self.at(x, y), button=button)
            self.page.mouse.wheel(0, 800)
            self.settle()

    def outline_by_keys(self, alpha: np.ndarray) -> None:
        """Walk along the outlines of a silhouette with the arrow keys, and put down corners with D."""
        self.page.keyboard.press("o")
        here = np.round(self.page.evaluate("annotation.drawing.cursor")).astype(int)
        zoom = self.page.evaluate("annotation.stage.view.zoom")
        for adds, polygon in outlines(alpha, 1):
            if not adds:
                self.page.keyboard.press("x")
            for corner in np.round(apart(polygon, 10 / zoom)).astype(int):
                for key, steps in zip(("ArrowRight", "ArrowDown"), corner - here, strict=True):
                    self._walk(key if steps > 0 else {"ArrowRight": "ArrowLeft", "ArrowDown": "ArrowUp"}[key], abs(steps))
                here = corner
                self.page.keyboard.press("d")
            self.page.keyboard.press("Enter")
            if not adds:
                self.page.keyboard.press("x")
        self.settle()

    def _walk(self, key: str, steps: int) -> None:
        for _ in range(steps // 10):
            self.page.keyboard.press(f"Shift+{key}")
        for _ in range(steps % 10):
            self.page.keyboard.press(key)

    def dialled(self) -> tuple[float, float, float]:
        """The pose that the page shows."""
        pose = self.page.evaluate("annotation.posing.pose")
        return pose["azimuth"], pose["elevation"], pose["theta"]


def read_back(root: pathlib.Path) -> dict[str, np.ndarray]:
    """Rotations from the world to the camera, by picture, as training gets them."""
    rotations = {}
    for split in ("train", "val", "test"):
        with contextlib.suppress(ValueError):  # too few pictures for every split
            source = FolderSource(str(root), split, crop=1.2)
            for index, name in enumerate(source.names):
                rotations[pathlib.Path(name).name] = source.picture(index).camera.world_to_camera[:3, :3].double().numpy()
    return rotations


def read_mask(root: pathlib.Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(root / "masks" / f"chair_{number}.png")) / 255


def iou(one: np.ndarray, two: np.ndarray) -> float:
    one, two = one > 0.5, two > 0.5
    return float((one & two).sum() / (one | two).sum())


if __name__ == "__main__":
    serve_again_and_again(pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
