"""A checkpoint's advice, given while a person annotates: in a thread of its own, and kept with the drafts."""

from __future__ import annotations

import logging
import statistics
import threading
from typing import Any

from sdfsrn.annotating.annotations import Annotations
from sdfsrn.annotating.opinions import Expert, needs_look
from sdfsrn.runtime.progress import track

PAUSE = 1.0  # seconds after an edit before its picture is looked at: the next edit may follow
WEAK = 0.85  # of the median IoU: less needs a look

log = logging.getLogger(__name__)


class Adviser:
    """Looks at every picture with a mask, and again when mask or pose have changed.

    Args:
        annotations: of a folder.
        expert: asked about its pictures.
    """

    def __init__(self, annotations: Annotations, expert: Expert) -> None:
        self.annotations = annotations
        self.expert = expert
        self._changed = threading.Condition()
        self._waiting = list(range(len(annotations.photos)))
        self._stopped = self._pause = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ask(self, index: int) -> None:
        """Look at a picture before all others, but not at once."""
        with self._changed:
            self._waiting = [index, *(i for i in self._waiting if i != index)]
            self._pause = True
            self._changed.notify()

    def stop(self) -> None:
        """End the thread; what it has begun is left."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def look(self) -> list[dict[str, Any]]:
        """The pictures that need a look, with the reason, the worst first."""
        opinions = {index: self.annotations.opinion(index) for index in range(len(self.annotations.photos))}
        posed = {index: opinion for index, opinion in opinions.items() if opinion is not None and opinion.iou is not None}
        usual = WEAK * statistics.median([opinion.iou or 0.0 for opinion in posed.values()]) if posed else 0.0
        found = []
        for index, opinion in sorted(posed.items(), key=lambda item: (item[1].better is None, item[1].iou)):
            reason = needs_look(opinion, usual)
            if reason is not None and "skipped" not in self.annotations.drafts[index].step.flags:
                better = opinion.better and opinion.better._asdict()
                found.append({"id": index, "reason": reason, "iou": opinion.iou, "better": better})
        return found

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._stopped)
                while not self._stopped and self._pause:
                    self._pause = self._changed.wait(PAUSE)  # another edit: wait again
                if self._stopped:
                    return
                index = self._waiting.pop(0)
            try:
                consult(self.annotations, self.expert, index)
            except Exception:
                log.exception("The model failed at %s", self.annotations.photos[index].name)


def consult(annotations: Annotations, expert: Expert, index: int) -> None:
    """Ask about a picture and keep the answer, unless there is nothing new to ask.

    Raises:
        ValueError: a picture or a mask that cannot be used.
        OSError: the answer could not be written.
    """
    step, known = annotations.drafts[index].step, annotations.drafts[index].opinion
    if known is not None and (known.model, known.mask, known.pose) == (expert.name, step.mask, step.pose):
        return
    subject = annotations.subject(index)
    if subject is not None:
        annotations.give_opinion(index, expert(subject))


def propose(annotations: Annotations, expert: Expert) -> dict[str, Any]:
    """Give every picture with a mask and without a pose the expert's, flagged unsure if it needs a look.

    Returns:
        `proposed`, the number of pictures; `unsure`, the reasons by name; `left`, the number of pictures without a mask;
        `failed`, the reasons by name.
    """
    drafts = annotations.drafts
    unposed = [i for i, draft in enumerate(drafts) if draft.state == "mask"]
    report: dict[str, Any] = {
        "proposed": 0,
        "unsure": {},
        "left": sum(d.state in ("nothing", "pose") for d in drafts),
        "failed": {},
    }
    for index in track(unposed, "Proposing poses", len(unposed), "pictures"):
        try:
            consult(annotations, expert, index)
        except ValueError as error:
            report["failed"][annotations.photos[index].name] = str(error)
    opinions = {i: opinion for i in unposed if (opinion := annotations.opinion(i)) is not None}
    usual = WEAK * statistics.median([opinion.proposal_iou for opinion in opinions.values()]) if opinions else 0.0
    for index, opinion in opinions.items():
        name, reason = annotations.photos[index].name, needs_look(opinion, usual)
        if opinion.proposal is None:
            report["failed"][name] = reason
            continue
        with annotations.locks[index]:
            step = drafts[index].step
            flags = step.flags if reason is None else tuple(sorted({*step.flags, "unsure"}))
            annotations.save(index, drafts[index].then(step._replace(pose=opinion.proposal, flags=flags)))
        report["proposed"] += 1
        if reason is not None:
            report["unsure"][name] = reason
    return report
