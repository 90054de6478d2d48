"""Edits of an annotation, as the page sends them: checked, then done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sdfsrn.annotating import silhouettes
from sdfsrn.annotating.drafts import FLAGS, Pose, Step
from sdfsrn.annotating.grabcut import cut, grabcut_installed
from sdfsrn.annotating.silhouettes import Layers

LONGEST = 600.0  # seconds of activity that one edit may report
MOST_POINTS = 20_000
FARTHEST = 1e5  # pixels from the picture's corner
PLAIN = ("fill_holes", "keep_largest", "clear", "undo", "redo")


class Edit(NamedTuple):
    """One checked edit; what it does not use keeps its default."""

    do: str
    seconds: float = 0.0
    points: tuple[tuple[float, float], ...] = ()
    add: bool = True
    radius: float = 1.0
    grabcut: bool = False
    pose: Pose | None = None
    name: str = ""
    value: bool = False
    key: str | None = None  # given by the page, another one for each edit


def read_edit(body: Mapping[str, Any]) -> Edit:
    """Check the body of a request.

    Raises:
        ValueError: no such edit, or values of it that cannot be.
    """
    key = body.get("key")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= 100):
        raise ValueError(f"Expected a key of at most 100 letters, got {str(key)[:100]}.")
    return _read(body)._replace(key=key)


def _read(body: Mapping[str, Any]) -> Edit:
    do = body.get("do")
    seconds = min(max(_number(body, "seconds", 0.0), 0.0), LONGEST)
    if do == "box":
        box = body.get("box")
        (x0, y0), (x1, y1) = _points([box[:2], box[2:]]) if isinstance(box, list) and len(box) == 4 else _points(box)
        return Edit(do, seconds, ((min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))))
    if do == "stroke":
        radius = _number(body, "radius")
        if not 0 < radius <= 1000:
            raise ValueError(f"Expected a radius of at most 1000 pixels, got {radius:g}.")
        return Edit(do, seconds, _points(body.get("points")), _truth(body, "add"), radius, _truth(body, "grabcut"))
    if do == "polygon":
        points = _points(body.get("points"))
        if len(points) < 3:
            raise ValueError(f"Expected a polygon of at least 3 points, got {len(points)}.")
        return Edit(do, seconds, points, _truth(body, "add"))
    if do == "pose":
        return Edit(do, seconds, pose=_pose(body.get("pose")))
    if do == "flag":
        if body.get("name") not in FLAGS:
            raise ValueError(f"Expected a flag of {', '.join(FLAGS)}, got {body.get('name')!r}.")
        return Edit(do, seconds, name=body["name"], value=_truth(body, "value"))
    if do in PLAIN:
        return Edit(str(do), seconds)
    raise ValueError(f"Expected an edit box, stroke, polygon, pose, flag, {', '.join(PLAIN)}, got {do!r}.")


def change(
    edit: Edit,
    step: Step,
    layers: Callable[[], Layers],
    image: Callable[[], np.ndarray],
    size: tuple[int, int],
) -> tuple[Layers | None, Step]:
    """The step that an edit other than undo and redo makes of another: new layers, if it draws, and the rest."""
    if edit.do == "pose":
        return None, step._replace(pose=edit.pose)
    if edit.do == "flag":
        flags = {*step.flags, edit.name} if edit.value else {*step.flags} - {edit.name}
        return None, step._replace(flags=tuple(sorted(flags)))
    if edit.do == "clear":
        return silhouettes.empty_layers(size), step._replace(box=None)
    if edit.do == "box":
        box = (*edit.points[0], *edit.points[1])
        guess = silhouettes.rectangle(size, box)
        found = cut(image(), guess, box) if grabcut_installed() else guess
        return found if found.mask.any() else guess, step._replace(box=box)
    drawn = _draw(edit, layers())
    return cut(image(), drawn, step.box) if edit.grabcut and grabcut_installed() else drawn, step


def _draw(edit: Edit, layers: Layers) -> Layers:
    if edit.do == "stroke":
        return silhouettes.stroke(layers, edit.points, edit.radius, edit.add)
    if edit.do == "polygon":
        return silhouettes.polygon(layers, edit.points, edit.add)
    return silhouettes.fill_holes(layers) if edit.do == "fill_holes" else silhouettes.keep_largest(layers)


def _pose(content: Any) -> Pose:
    """A pose whose azimuth lies in [0, 360) and theta in (-180, 180]."""
    if not isinstance(content, Mapping) or not {"azimuth", "elevation", "theta"} <= set(content) <= set(Pose._fields):
        raise ValueError(f"Expected a pose of {', '.join(Pose._fields)}, got {str(content)[:100]}.")
    azimuth, elevation, theta = (_number(content, name) for name in ("azimuth", "elevation", "theta"))
    scale, x, y = (None if content.get(name) is None else _number(content, name) for name in ("scale", "x", "y"))
    if not -90 <= elevation <= 90:
        raise ValueError(f"Expected an elevation between -90 and 90 degrees, got {elevation:g}.")
    if scale is not None and not 0 < scale < 1000:
        raise ValueError(f"Expected a scale between 0 and 1000, got {scale:g}.")
    if (x is None) != (y is None):
        raise ValueError("Expected x and y together.")
    return Pose(azimuth % 360 % 360, elevation, 180 - (180 - theta) % 360, scale, x, y)


def _number(content: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = content.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < FARTHEST or not math.isfinite(value):
        raise ValueError(f"Expected a number as {name}, got {str(value)[:100]}.")
    return float(value)


def _truth(content: Mapping[str, Any], name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"Expected true or false as {name}, got {str(value)[:100]}.")
    return value


def _points(content: Any) -> tuple[tuple[float, float], ...]:
    whole = isinstance(content, list) and 0 < len(content) <= MOST_POINTS
    if not whole or not all(isinstance(point, list) and len(point) == 2 for point in content):
        raise ValueError(f"Expected 1 to {MOST_POINTS} points [x, y], got {str(content)[:100]}.")
    named = [{"x": x, "y": y} for x, y in content]
    return tuple((_number(point, "x"), _number(point, "y")) for point in named)
