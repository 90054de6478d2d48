"""The history of an annotation, and its way to a file and back."""

from __future__ import annotations

import json

import pytest

from sdfsrn.annotating.drafts import KEPT, Draft, Pose, Step, from_json


def turned(azimuth: float) -> Step:
    return Step(pose=Pose(azimuth, 0, 0))


def test_undo_and_redo_walk_through_the_history() -> None:
    draft = Draft()
    for azimuth in range(5):
        draft = draft.then(turned(azimuth))
    assert (draft.position, draft.moved(1)) == (5, draft)
    for azimuth in (3, 2):
        draft = draft.moved(-1)
        assert draft.step == turned(azimuth)
    assert draft.moved(1).step == turned(3)
    other = draft.then(turned(90))
    assert [step.pose and step.pose.azimuth for step in other.steps] == [None, 0, 1, 2, 90]
    assert other.moved(1) == other
    start = other
    for _ in range(9):
        start = start.moved(-1)
    assert start.step == Step()


def test_the_same_again_is_no_step() -> None:
    draft = Draft().then(turned(1)).then(turned(2)).moved(-1)
    assert draft.then(turned(1)) == draft
    assert draft.moved(1).step == turned(2)


def test_two_hundred_steps_are_kept() -> None:
    assert KEPT >= 100
    draft = Draft()
    for azimuth in range(KEPT + 50):
        draft = draft.then(turned(azimuth))
    for _ in range(KEPT):
        draft = draft.moved(-1)
    assert (draft.position, draft.step) == (0, turned(49))


def test_states() -> None:
    pose, mask = Pose(0, 0, 0), "alpha"
    steps = {"nothing": Step(), "mask": Step(mask), "pose": Step(pose=pose), "done": Step(mask, pose=pose)}
    assert {Draft((step,)).state: step for step in steps.values()} == steps
    assert {Draft((step._replace(flags=("skipped",)),)).state for step in steps.values()} == {"skipped"}


def test_a_file_and_back() -> None:
    full = Step("0123", (1, 2, 30, 40), (0.5, 1.5, 30.25, 40), Pose(359.5, -12, 3, 0.7, -0.1, 0.2), ("cut_off", "unsure"))
    draft = Draft((Step(), full, turned(7)), 1, 12.5, "val", "masks/ü.png", "2026-01-02T03:04:05", {"shape": "a.ply"})
    assert from_json(draft.to_json("ü.jpg", (60, 50)), (60, 50)) == draft


@pytest.mark.parametrize(
    "change", [{"size": [50, 60]}, {"steps": [{"mask": None}]}, {"steps": []}, {"position": 1}, {"position": "a"}]
)
def test_other_files_are_refused(change: dict[str, object]) -> None:
    content = json.loads(Draft().to_json("a.jpg", (60, 50)))
    with pytest.raises(ValueError, match="it "):
        from_json(json.dumps(content | change), (60, 50))
    with pytest.raises(ValueError, match="it is no draft"):
        from_json("[]", (60, 50))
