"""Answers to the page's requests, from a folder's annotations."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from sdfsrn.annotating.advice import Adviser
from sdfsrn.annotating.annotations import FILE, Annotations
from sdfsrn.annotating.drafts import Pose
from sdfsrn.annotating.edits import change, read_edit
from sdfsrn.annotating.grabcut import grabcut_installed
from sdfsrn.annotating.opinions import Expert
from sdfsrn.evaluation.html import coarsen

SECTORS = 8  # of the wheel of azimuths, the first around 0
MOST_FACES = 2000  # of shapes for the page


class Session:
    """Answers for the page, ready for JSON; `sdfsrn.annotating.server` hands them over.

    Args:
        root, crop, convention: as of `Annotations`.
        expert: proposes poses and judges those that are there.

    Raises:
        ValueError: as `Annotations`.
    """

    def __init__(
        self,
        root: str | pathlib.Path,
        crop: float | None = 1.2,
        convention: str | None = None,
        expert: Expert | None = None,
    ) -> None:
        self.annotations = Annotations(root, crop, convention)
        self.adviser = None if expert is None else Adviser(self.annotations, expert)

    def close(self) -> None:
        """Wait for running edits, and give the folder back."""
        if self.adviser is not None:
            self.adviser.stop()
        self.annotations.close()

    def state(self) -> dict[str, Any]:
        """Answer `GET /api/state`."""
        folder = self.annotations
        states = [draft.state for draft in folder.drafts]
        done = [draft for draft in folder.drafts if draft.state == "done"]
        spent = [draft.seconds for draft in done if draft.seconds > 0]
        median = statistics.median(spent) if spent else None
        left = [i for i, state in enumerate(states) if state not in ("done", "skipped") and folder.photos[i].error is None]
        azimuths = [0] * SECTORS
        for draft in done:
            assert draft.step.pose is not None  # it is done
            azimuths[round(draft.step.pose.azimuth / (360 / SECTORS)) % SECTORS] += 1
        return {
            "pictures": [self.summary(index) for index in range(len(states))],
            "grabcut": grabcut_installed(),
            "model": self.adviser is not None,
            "root": folder.root.resolve().name,
            "median_seconds": median,
            "eta_seconds": None if median is None else median * len(left),
            "azimuths": azimuths,
            "first": left[0] if left else 0,
        }

    def summary(self, index: int) -> dict[str, Any]:
        """A picture in the list of `GET /api/state`."""
        photo, draft, opinion = self.annotations.photos[index], self.annotations.drafts[index], self.annotations.opinion(index)
        step = draft.step
        return {
            "id": index,
            "name": photo.name,
            "width": photo.size[0],
            "height": photo.size[1],
            "state": draft.state,
            "unsure": "unsure" in step.flags,
            "cut_off": "cut_off" in step.flags,
            "azimuth": None if step.pose is None else step.pose.azimuth,
            "seconds": draft.seconds,
            "mask": None if step.mask is None else step.mask.removeprefix(FILE),
            "iou": None if opinion is None else opinion.iou,
            "error": photo.error,
        }

    def draft(self, index: int) -> dict[str, Any]:
        """Answer `GET /api/pictures/ID`."""
        draft = self.annotations.drafts[index]
        return self.summary(index) | {
            "pose": draft.step.pose and draft.step.pose._asdict(),
            "frame": self.annotations.frame(index, draft.step),
            "undo": draft.position,
            "redo": len(draft.steps) - 1 - draft.position,
            "saved": draft.saved and draft.saved.partition("T")[2],
            "proposal": self._proposal(index),
        }

    def edit(self, index: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do what `POST /api/pictures/ID/edits` says; once this returns, it is on the disk.

        An edit with the key of an earlier one is that one, sent again since its answer was lost: it is done once.

        Raises:
            ValueError: an edit that cannot be done.
            OSError: it could not be written.
        """
        folder = self.annotations
        photo = folder.photos[index]
        if photo.error is not None:
            raise ValueError(photo.error)
        edit = read_edit(body)
        with folder.locks[index]:
            draft = folder.drafts[index]
            if edit.key in draft.keys:
                return self.draft(index)
            if edit.do in ("undo", "redo"):
                draft = draft.moved(-1 if edit.do == "undo" else 1)
            else:
                layers, step = change(edit, draft.step, lambda: folder.layers(index), lambda: folder.image(index), photo.size)
                draft = draft.then(step if layers is None else folder.with_layers(index, step, layers))
            folder.save(index, draft.after(edit.key, edit.seconds))
            answer = self.draft(index)
        if self.adviser is not None:
            self.adviser.ask(index)
        return answer

    def review(self) -> dict[str, Any]:
        """Answer `GET /api/review`."""
        posed = [(draft.step.pose.azimuth, i) for i, draft in enumerate(self.annotations.drafts) if draft.step.pose is not None]
        return {"sheet": [i for _, i in sorted(posed)], "look": [] if self.adviser is None else self.adviser.look()}

    def shape(self, index: int) -> dict[str, Any] | None:
        """Answer `GET /api/pictures/ID/shape`; None without a checkpoint, a mask or a surface."""
        subject = None if self.adviser is None else self.annotations.subject(index)
        if subject is None or self.adviser is None:
            return None
        mesh = self.adviser.expert.shape(subject)
        if len(mesh.faces) == 0:
            return None
        faces, (vertices,) = coarsen(np.asarray(mesh.faces), [np.asarray(mesh.vertices)], MOST_FACES)
        return {"vertices": vertices.round(4).tolist(), "faces": faces.tolist()}

    def _proposal(self, index: int) -> dict[str, Any] | None:
        """The checkpoint's pose; without one, that of the nearest earlier picture that has one, or else of the next."""
        opinion = self.annotations.opinion(index)
        if self.adviser is not None and opinion is not None and opinion.proposal is not None:
            return opinion.proposal._asdict()
        drafts = self.annotations.drafts
        order = [*range(index - 1, -1, -1), *range(index + 1, len(drafts))]
        found = next((pose for i in order if (pose := drafts[i].step.pose) is not None), None)
        return found and Pose(*found[:3])._asdict()
