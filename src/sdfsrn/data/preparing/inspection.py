"""Checks of silhouettes, poses and ground truth of a data set: a report in numbers and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from sdfsrn.data.alpha import find_specks, touches_border
from sdfsrn.data.cropping import object_box
from sdfsrn.data.source import ImageSample, Source, check_picture, evenly_spaced, short_name
from sdfsrn.runtime.progress import track

OUTSIDE = 0.05  # share of the true points that may fall beside the silhouette
HAZE = 0.001  # share of the pixels whose faint coverage may be dropped without a word
SPAN = 0.7  # of the silhouette's box, that the true points span at least
FAULTS = {  # name of a fault: what it means
    "unusable": "cannot be read, or breaks a rule of `check_picture`",
    "empty": "no pixel is covered by half",
    "full": "no pixel is background",
    "border": "the silhouette touches the border of the picture, or of the photo it was cut out of, where it may go on",
    "haze": f"faint coverage away from the object, in more than {HAZE:.1%} of the pixels, was set to 0",
    "specks": "small pieces of the silhouette lie far from the object: is that coverage?",
    "behind": "the world's origin is behind the camera",
    "out of view": "the unit box around the origin falls beside the picture",
    "off center": "the origin falls beside the silhouette's box",
    "truth outside": f"more than {OUTSIDE:.0%} of the true points fall beside the silhouette",
    "truth small": f"the true points span less than {SPAN:.0%} of the silhouette's box",
}
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
EDGES = [(i, j) for i in range(8) for j in range(i + 1, 8) if np.abs(CORNERS[i] - CORNERS[j]).sum() == 1]
FRONT = [(i, j) for i, j in EDGES if CORNERS[i][2] == CORNERS[j][2] == -0.5]
NEAREST = 1e-3  # depth that lines are cut at
OUTLINE, BOX, DOTS, INK, ALARM = (225, 0, 190), (90, 90, 90), (0, 130, 150), (40, 40, 40), (200, 30, 20)
ORANGE = (240, 130, 0)
AXES = {"x": (215, 30, 30), "y": (20, 150, 40), "z": (30, 70, 225)}
FINE = 2  # cells are drawn that many times larger


def inspect(source: Source) -> dict[str, Any]:
    """Count pictures and ground truth, and name the pictures with faults. Plain values, ready for JSON.

    Returns:
        `pictures`, their number; `faults`, names of pictures by fault (see `FAULTS`; only those that occur); `unusable`,
        the reasons by name; `truth`, the number of `objects` that have any, and the mean and greatest part of their points
        `outside` the silhouette, pixels next to it not counted: a wrong pose convention shows here first; `dropped`, in how
        many `pictures` faint coverage was set to 0, and the `mean` share of their pixels.
    """
    faults: dict[str, list[str]] = {name: [] for name in FAULTS}
    reasons: dict[str, str] = {}
    outside, dropped = [], []
    for index in track(range(len(source)), "Inspecting", len(source), "pictures"):
        name = source.names[index]
        try:
            picture, points = source.picture(index), source.points(index)
            found = find_faults(picture, points)
            if "empty" not in found and "full" not in found:
                check_picture(picture, name)
        except ValueError as error:
            found, reasons[name] = ["unusable"], str(error)
        else:
            dropped.append(picture.dropped)
            if len(points) > 0:
                outside.append(part_outside(picture, points))
        for fault in found:
            faults[fault].append(name)
    truth: dict[str, Any] = {"objects": len(outside)}
    if outside:
        truth |= {"outside_mean": float(np.mean(outside)), "outside_max": float(np.max(outside))}
    hazy = [share for share in dropped if share > 0]
    return {
        "pictures": len(source),
        "faults": {fault: names for fault, names in faults.items() if names},
        "unusable": reasons,
        "truth": truth,
        "dropped": {"pictures": len(hazy), "mean": float(np.mean(hazy)) if hazy else 0.0},
    }


def find_faults(picture: ImageSample, points: Float[np.ndarray, "n 3"]) -> list[str]:
    """The `FAULTS` of one picture; `points` are its truth, n = 0 if there is none."""
    box = object_box(picture.alpha)
    if box is None:
        return ["empty"]
    inside = picture.alpha >= 0.5
    found = {
        "full": bool(inside.all()),
        "border": picture.cut or touches_border(picture.alpha),
        "haze": picture.dropped > HAZE,
        "specks": bool(find_specks(picture.alpha)),
    }
    pixel, depth = project(picture, np.zeros((1, 3)))
    found["behind"] = bool(depth[0] <= 0)
    if not found["behind"]:
        found["off center"] = not _overlap(pixel, np.array([[box.left, box.top], [box.right, box.bottom]]))
        corners, depths = project(picture, CORNERS)
        found["out of view"] = not _overlap(corners[depths > 0], np.array([[0, 0], picture.alpha.shape[::-1]]))
    if len(points) > 0:
        found["truth outside"] = part_outside(picture, points) > OUTSIDE
        pixel, depth = project(picture, points)
        span = np.ptp(pixel[depth > 0], axis=0) if (depth > 0).any() else np.zeros(2)
        found["truth small"] = bool((span < SPAN * np.array([box.right - box.left, box.bottom - box.top]) - 1).any())
    return [fault for fault, true in found.items() if true]


def part_outside(picture: ImageSample, points: Float[np.ndarray, "n 3"]) -> float:
    """The part of the points that fall neither on a covered pixel nor next to one, or lie behind the camera."""
    covered: Bool[np.ndarray, "h w"] = binary_dilation(picture.alpha > 0, np.ones((3, 3)))
    covered = np.pad(covered, 1)
    pixel, depth = project(picture, points)
    column, row = np.clip(np.floor(pixel) + 1, 0, np.array(covered.shape[::-1]) - 1).astype(int).T
    return float(1 - (covered[row, column] & (depth > 0)).mean())


def project(picture: ImageSample, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """World points to pixels (x, y) from the outer corner of the first, far away but finite, and depths."""
    camera = picture.camera.map(torch.Tensor.double)
    uv, depth = camera.project(torch.as_tensor(points, dtype=torch.float64))
    pixel = camera.pixels(uv, picture.alpha.shape).numpy()
    return np.nan_to_num(pixel, nan=1e6).clip(-1e6, 1e6), depth.numpy()


def contact_sheet(
    source: Source,
    indices: Sequence[int] | None = None,
    count: int = 24,
    columns: int = 6,
    cell: int = 192,
    background: float = 1.0,
) -> Image.Image:
    """Draw silhouettes and poses over pictures, to see that boxes surround their objects and fronts are in front.

    Over each picture, as the network sees it: the silhouette's outline; red rings around specks far from the object; from the
    world's origin the axes x (red), y (green), z (blue), 0.7 long; the box [-0.5, 0.5]^3, its front face z = -0.5 in orange;
    true points as dots. Below: the name, and faults in red.

    Args:
        source: any.
        indices: of the pictures; None takes `count`, evenly spaced.
        count: of pictures, at most.
        columns: of the sheet.
        cell: height and width of a picture on it, in pixels.
        background: colour behind objects, in [-1, 1], as in training.
    """
    if indices is None:
        indices = evenly_spaced(len(source), count)
    gap, below = 8, 32
    rows = -(-len(indices) // columns)
    sheet = Image.new("RGB", (gap + columns * (cell + gap), gap + rows * (cell + below + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, index in enumerate(indices):
        row, column = divmod(place, columns)
        left, top = gap + column * (cell + gap), gap + row * (cell + below + gap)
        image, found = _cell(source, index, cell, background)
        sheet.paste(image, (left, top))
        for line, ink in enumerate((INK, ALARM)):
            text = (short_name(source.names[index]), ", ".join(found))[line]
            while draw.textlength(text, font) > cell:
                text = text[1:]  # names differ at their ends
            draw.text((left, top + cell + 2 + 14 * line), text, ink, font)
    return sheet


def _cell(source: Source, index: int, cell: int, background: float) -> tuple[Image.Image, list[str]]:
    """One picture of the sheet, and its faults."""
    try:
        picture, points = source.picture(index), source.points(index)
        found = find_faults(picture, points)
    except ValueError:
        return Image.new("RGB", (cell, cell), (225, 225, 225)), ["unusable"]
    side = FINE * cell
    behind, alpha = round(127.5 * (background + 1)), picture.alpha[..., None]
    seen = alpha * picture.image + (1 - alpha) * behind
    canvas = _enlarge(seen.round().astype(np.uint8), side, behind)
    inside = np.asarray(_enlarge((255 * picture.alpha).astype(np.uint8), side, 0)) >= 128
    pixels = np.array(canvas)
    pixels[inside & ~binary_erosion(inside, iterations=FINE)] = OUTLINE
    canvas = Image.fromarray(pixels)
    scale = side / max(picture.alpha.shape)
    _draw_points(ImageDraw.Draw(canvas), picture, points, scale)
    _draw_pose(ImageDraw.Draw(canvas), picture, scale)
    for box in find_specks(picture.alpha):
        (x, y), radius = np.array(box.middle) * scale, box.longer * scale / 2 + 4 * FINE
        ImageDraw.Draw(canvas).ellipse([x - radius, y - radius, x + radius, y + radius], outline=ALARM, width=FINE)
    return canvas.resize((cell, cell), Image.Resampling.LANCZOS), found


def _enlarge(image: np.ndarray, side: int, gray: int) -> Image.Image:
    """To fit into a square of that grey, at its first corner."""
    scale = side / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    square = Image.new("RGB" if image.ndim == 3 else "L", (side, side), (gray, gray, gray) if image.ndim == 3 else gray)
    square.paste(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return square


def _draw_points(draw: ImageDraw.ImageDraw, picture: ImageSample, points: np.ndarray, scale: float) -> None:
    pixel, depth = project(picture, points[:: max(1, len(points) // 400)])
    for x, y in pixel[depth > 0] * scale:
        draw.ellipse([x - 1, y - 1, x + 1, y + 1], DOTS)


def _draw_pose(draw: ImageDraw.ImageDraw, picture: ImageSample, scale: float) -> None:
    font = ImageFont.load_default(13 * FINE)
    for i, j in EDGES:
        front = (i, j) in FRONT
        _draw_line(draw, picture, CORNERS[[i, j]], scale, ORANGE if front else BOX, (2 if front else 1) * FINE)
    _write(draw, picture, np.array([0, -0.5, -0.5]), scale, "front", ORANGE, font)
    for axis, (name, color) in enumerate(AXES.items()):
        tip = 0.7 * np.eye(3)[axis]
        _draw_line(draw, picture, np.stack([np.zeros(3), tip]), scale, color, 2 * FINE)
        _write(draw, picture, 1.12 * tip, scale, name, color, font)


def _draw_line(
    draw: ImageDraw.ImageDraw, picture: ImageSample, ends: np.ndarray, scale: float, color: tuple, width: int
) -> None:
    """A line between two world points, as far as it is in front of the camera."""
    depth = project(picture, ends)[1]
    if depth.max() <= NEAREST:
        return
    if depth.min() < NEAREST:
        part = (NEAREST - depth[0]) / (depth[1] - depth[0])
        ends = np.where((depth < NEAREST)[:, None], ends[0] + part * (ends[1] - ends[0]), ends)
    pixel = project(picture, ends)[0] * scale
    draw.line([tuple(point) for point in pixel.clip(-1e5, 1e5)], color, width)


def _write(
    draw: ImageDraw.ImageDraw, picture: ImageSample, at: np.ndarray, scale: float, text: str, color: tuple, font: Any
) -> None:
    """Letters at a world point, or at the border nearest to it."""
    pixel, depth = project(picture, at[None])
    if depth[0] > NEAREST:
        room = np.array(picture.alpha.shape[::-1]) * scale - font.size
        draw.text(
            tuple((pixel[0] * scale).clip(font.size, room)),
            text,
            color,
            font,
            anchor="mm",
            stroke_width=FINE,
            stroke_fill="white",
        )


def _overlap(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether the bounding boxes of two lists of points meet."""
    return len(one) > 0 and bool((one.min(0) <= two.max(0)).all() and (two.min(0) <= one.max(0)).all())
