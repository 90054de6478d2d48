"""The annotation of one picture: mask, pose, flags, with a history of its own that is saved with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

FLAGS = ("skipped", "unsure", "cut_off")
KEPT = 200  # steps of the history, and keys of edits


class Pose(NamedTuple):
    """A weak-perspective pose in the convention nmr: degrees, and screen coordinates in [-1, 1]^2 of the whole picture."""

    azimuth: float
    elevation: float
    theta: float
    scale: float | None = None  # None: the world's unit follows from the silhouette, as in `FolderSource`
    x: float | None = None
    y: float | None = None


class Step(NamedTuple):
    """One state of an annotation."""

    mask: str | None = None  # "alpha", "file:<path below the root>", or the digest of layers that were drawn
    bounds: tuple[int, int, int, int] | None = None  # box of the mask's pixels, as shown
    box: tuple[float, float, float, float] | None = None  # that was dragged for GrabCut
    pose: Pose | None = None
    flags: tuple[str, ...] = ()


class Opinion(NamedTuple):
    """A checkpoint's opinion on a picture with a mask and, if it has one, a pose."""

    model: str  # digest of its weights
    mask: str
    pose: Pose | None
    proposal: Pose | None = None  # None: it sees no shape
    proposal_iou: float = 0.0  # of the silhouettes of mask and shape
    clear: bool = False  # no other pose fits as well
    iou: float | None = None  # under `pose`
    better: Pose | None = None  # `pose` turned by 90, 180 or 270 degrees, if that fits better
    better_iou: float = 0.0


class Draft(NamedTuple):
    """A picture's annotation and its history."""

    steps: tuple[Step, ...] = (Step(),)
    position: int = 0
    seconds: float = 0.0  # that a person was active
    split: str | None = None  # drawn with the first complete annotation
    mask_path: str | None = None  # below the root, where masks that were drawn are written
    saved: str | None = None  # local time, ISO 8601
    others: Mapping[str, str] = {}  # cells of the picture's row that the page does not write
    keys: tuple[str, ...] = ()  # of the last edits, so that one that is sent again is done once
    opinion: Opinion | None = None

    @property
    def step(self) -> Step:
        """The present state."""
        return self.steps[self.position]

    @property
    def state(self) -> str:
        """nothing, mask, pose, done or skipped."""
        step = self.step
        if "skipped" in step.flags:
            return "skipped"
        if step.pose is not None and step.mask is not None:
            return "done"
        return "mask" if step.mask is not None else "pose" if step.pose is not None else "nothing"

    def then(self, step: Step) -> Draft:
        """The draft after one more step; what was undone is forgotten, and the same state again is no step."""
        if step == self.step:
            return self
        steps = (*self.steps[: self.position + 1], step)[-KEPT - 1 :]
        return self._replace(steps=steps, position=len(steps) - 1)

    def moved(self, by: int) -> Draft:
        """The draft after an undo (-1) or redo (1), if there is anything to undo or redo."""
        return self._replace(position=min(max(self.position + by, 0), len(self.steps) - 1))

    def after(self, key: str | None, seconds: float) -> Draft:
        """The draft with an edit's key and time counted in."""
        keys = self.keys if key is None else (*self.keys, key)[-KEPT:]
        return self._replace(keys=keys, seconds=self.seconds + seconds)

    def to_json(self, image: str, size: tuple[int, int]) -> str:
        """The content of a draft's file, with the picture that it belongs to."""
        return json.dumps({"image": image, "size": size, **_plain(self)})


def from_json(text: str, size: tuple[int, int]) -> Draft:
    """The draft in a file's content.

    Raises:
        ValueError: no draft, or that of a picture of another size.
    """
    content = json.loads(text)
    try:
        if tuple(content["size"]) != size:
            made = " x ".join(map(str, content["size"]))
            raise ValueError(f"it was made of a picture of {made} pixels, this one has {size[0]} x {size[1]}")
        fields = {name: content[name] for name in Draft._fields if name in content}
        steps = tuple(_step(step) for step in content["steps"])
        keys = tuple(map(str, content.get("keys", ())))
        draft = Draft(**fields | {"steps": steps, "keys": keys, "opinion": _opinion(content.get("opinion"))})
        draft.steps[draft.position]
        return draft
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it is no draft ({type(error).__name__}: {error})") from error


def _step(content: Mapping[str, Any]) -> Step:
    bounds, box = (content[name] and tuple(content[name]) for name in ("bounds", "box"))
    return Step(content["mask"], bounds, box, _pose(content["pose"]), tuple(content["flags"]))


def _opinion(content: Mapping[str, Any] | None) -> Opinion | None:
    if content is None:
        return None
    return Opinion(**{**content} | {name: _pose(content[name]) for name in ("pose", "proposal", "better")})


def _pose(content: Mapping[str, Any] | None) -> Pose | None:
    return None if content is None else Pose(**content)


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, at every level."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
