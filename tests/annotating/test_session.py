"""A folder being annotated: edits, files, restarts, and what was in the folder before."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from photographs import POSE, iou, opened, write_discs
from sdfsrn.annotating.session import Session
from sdfsrn.data.preparing.inspection import inspect
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.table import read_table

Y, X = np.mgrid[:90, :120] + 0.5
DISC = np.hypot(X - 70, Y - 40) < 20
BOX = {"do": "box", "box": [45, 15, 95, 65]}
ODD = ["a.png", "Vögel/a b.jpg", "Vögel/c,#=[1].png", "x.y.png", "x.y.webp"]


def pose(**changes: Any) -> dict[str, Any]:
    return {"do": "pose", "pose": POSE | changes}


def annotate_all(root: pathlib.Path) -> None:
    with opened(root) as session:
        for index in range(len(session.annotations.photos)):
            session.edit(index, BOX)
            session.edit(index, {"do": "polygon", "add": False, "points": [[0, 0], [120, 0], [120, 22], [0, 22]]})
            session.edit(index, pose(azimuth=40.0 * index))


def test_what_it_writes_is_a_data_set_without_faults(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ODD)
    annotate_all(tmp_path)
    records = read_table(tmp_path, None)
    assert [record.image for record in records] == sorted(ODD)
    masks = ["masks/Vögel/a b.png", "masks/Vögel/c,#=[1].png", "masks/a.png", "masks/x.y.png.png", "masks/x.y.webp.png"]
    assert [record.mask for record in records] == masks
    for split in ("train", "val", "test"):
        report = inspect(FolderSource(str(tmp_path), split, crop=1.2))
        assert report["faults"] == {}
        assert report["unusable"] == {}
    for record in records:
        mask = np.asarray(Image.open(tmp_path / record.mask))
        assert iou(mask >= 128, DISC & (Y > 22)) > 0.95


def test_its_frame_is_that_of_training(tmp_path: pathlib.Path) -> None:
    """A row without scale, and one with the scale and the origin of `frame`, are the same camera."""
    write_discs(tmp_path, ["a.png"])
    for crop in (1.2, None):
        with opened(tmp_path, crop=crop) as session:
            session.edit(0, {"do": "polygon", "add": True, "points": [[20, 30], [90, 35], [60, 80]]})
            answer = session.edit(0, pose())
            free = FolderSource(str(tmp_path), "train", crop=crop).picture(0).camera
            session.edit(0, pose(**answer["frame"]))
            fixed = FolderSource(str(tmp_path), "train", crop=crop).picture(0).camera
        torch.testing.assert_close(fixed, free)


def test_large_pictures_are_shown_smaller_and_masked_in_full(tmp_path: pathlib.Path) -> None:
    """Turned upright, too: orientation 6 swaps the sides."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4000, 1000), "gray").save(tmp_path / "a.jpg", exif=exif)
    with opened(tmp_path) as session:
        assert (session.annotations.photos[0].original, session.annotations.photos[0].size) == ((1000, 4000), (500, 2000))
        assert session.annotations.image(0).shape == (2000, 500, 3)
        session.edit(0, {"do": "stroke", "add": True, "radius": 100, "points": [[250, 1500]], "grabcut": False})
        answer = session.edit(0, pose())
    mask = np.asarray(Image.open(tmp_path / "masks" / "a.png")) >= 128
    y, x = np.mgrid[:4000, :1000] + 0.5
    assert iou(mask, np.hypot(x - 500, y - 3000) < 200) > 0.98
    assert answer["frame"]["scale"] == pytest.approx(1.2 * 200 / 500, abs=0.01)
    assert FolderSource(str(tmp_path), "train", crop=1.2).picture(0).alpha.mean() == pytest.approx(np.pi / 4 / 1.44, abs=0.01)


def test_history_survives_a_restart(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png", "b.png"])
    with opened(tmp_path) as session:
        answers = [session.draft(0)]
        for i in range(60):
            points = [[i, 45], [i + 10, 45]]
            answers.append(session.edit(0, {"do": "stroke", "add": i % 3 > 0, "radius": 6, "points": points}))
            answers.append(session.edit(0, pose(azimuth=float(i))))
        answers.append(session.edit(0, {"do": "flag", "name": "unsure", "value": True}))
        session.edit(1, pose())
    answers = [answer for i, answer in enumerate(answers) if i == 0 or answer["undo"] > answers[i - 1]["undo"]]
    assert len(answers) > 101
    for direction, order in (("undo", answers[-2::-1]), ("redo", answers[1:])):
        for chunk in (order[:50], order[50:]):
            with opened(tmp_path) as session:
                for expected in chunk:
                    check_same(session.edit(0, {"do": direction}), expected)
                    saved = tmp_path / "masks" / "a.png"
                    if expected["mask"] is not None:
                        assert np.array_equal(np.asarray(Image.open(saved)), session.annotations.layers(0).mask)
                assert session.draft(1)["undo"] == 1
    assert session.draft(0)["redo"] == 0


def check_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    names = ("pose", "mask", "unsure", "frame", "state", "undo")
    assert {name: got[name] for name in names} == {name: expected[name] for name in names}


def test_undone_steps_and_their_files_are_forgotten_after_another(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])
    stroke = {"do": "stroke", "add": True, "radius": 5}
    with opened(tmp_path) as session:
        for x in range(10, 100, 10):
            session.edit(0, stroke | {"points": [[x, 20]]})
        for _ in range(8):
            session.edit(0, {"do": "undo"})
        answer = session.edit(0, stroke | {"points": [[50, 80]]})
    assert (answer["undo"], answer["redo"]) == (2, 0)
    assert len(list((tmp_path / ".annotations" / "a.png").glob("*.png"))) == 2


def test_a_mask_that_is_undone_and_forgotten_does_not_come_back(tmp_path: pathlib.Path) -> None:
    """Its file is still there."""
    write_discs(tmp_path, ["a.png"])
    with opened(tmp_path) as session:
        session.edit(0, {"do": "stroke", "add": True, "radius": 5, "points": [[20, 20]]})
        session.edit(0, {"do": "undo"})
        expected = session.edit(0, pose())
    with opened(tmp_path) as session:
        assert session.draft(0) == expected


def test_rows_come_and_go_with_the_annotation(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png", "b.png"])

    def rows() -> list[str]:
        return [line.partition(",")[0] for line in (tmp_path / "cameras.csv").read_text().splitlines()[1:]]

    with opened(tmp_path) as session:
        session.edit(0, pose())
        assert not (tmp_path / "cameras.csv").exists()
        session.edit(0, BOX)
        session.edit(1, BOX)
        assert rows() == ["a.png"]
        split = read_table(tmp_path, None)[0].split
        session.edit(0, {"do": "flag", "name": "skipped", "value": True})
        assert rows() == []
        session.edit(1, pose())
        session.edit(0, {"do": "undo"})
        assert sorted(rows()) == ["a.png", "b.png"]
        assert {record.image: record.split for record in read_table(tmp_path, None)}["a.png"] == split
        session.edit(0, {"do": "clear"})
        assert rows() == ["b.png"]


def test_progress(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, [f"{i}.png" for i in range(5)])
    with opened(tmp_path) as session:
        assert (session.state()["first"], session.state()["eta_seconds"]) == (0, None)
        for index, azimuth in ((0, 350.0), (2, 100.0)):
            session.edit(index, BOX | {"seconds": 7 + index})
            session.edit(index, pose(azimuth=azimuth) | {"seconds": 3})
        session.edit(1, {"do": "flag", "name": "skipped", "value": True})
        session.edit(3, BOX | {"seconds": 1e4})
        state = session.state()
    assert [picture["state"] for picture in state["pictures"]] == ["done", "skipped", "done", "mask", "nothing"]
    assert (state["first"], state["median_seconds"], state["eta_seconds"]) == (3, 11, 22)
    assert state["azimuths"] == [1, 0, 1, 0, 0, 0, 0, 0]
    assert state["pictures"][3]["seconds"] == 600  # a person that went for lunch


def test_the_next_picture_starts_at_the_pose_of_the_one_before(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png", "b.png", "c.png"])
    with opened(tmp_path) as session:
        assert session.draft(1)["proposal"] is None
        session.edit(2, pose(azimuth=77.0, scale=0.4, x=0.1, y=0.2))
        assert session.draft(1)["proposal"] == POSE | {"azimuth": 77.0, "scale": None, "x": None, "y": None}
        session.edit(0, pose(azimuth=5.0))
        assert session.draft(1)["proposal"]["azimuth"] == 5


def cut_outs(root: pathlib.Path, names: list[str]) -> None:
    for name in names:
        soft = np.clip(20.5 - np.hypot(X - 70, Y - 40), 0, 1) * 255
        color = np.full((90, 120, 3), 100)
        Image.fromarray(np.dstack([color, soft]).astype(np.uint8)).save(root / name)


def test_alpha_channels_are_masks_until_they_are_corrected(tmp_path: pathlib.Path) -> None:
    cut_outs(tmp_path, ["a.png", "b.png"])
    Image.new("RGBA", (50, 50), (1, 2, 3, 255)).save(tmp_path / "solid.png")
    original = (tmp_path / "a.png").read_bytes()
    with opened(tmp_path) as session:
        assert [picture["state"] for picture in session.state()["pictures"]] == ["mask", "mask", "nothing"]
        session.edit(0, pose())
        session.edit(1, pose())
        assert [record.mask for record in read_table(tmp_path, None)] == ["", ""]
        session.edit(0, {"do": "stroke", "add": True, "radius": 5, "points": [[20, 70]]})
        assert [record.mask for record in read_table(tmp_path, None)] == ["masks/a.png", ""]
        mask = np.asarray(Image.open(tmp_path / "masks" / "a.png"))
        assert np.array_equal(mask[:60], np.asarray(Image.open(tmp_path / "a.png"))[:60, :, 3])
        assert mask[70, 20] == 255
        session.edit(0, {"do": "undo"})
        assert [record.mask for record in read_table(tmp_path, None)] == ["", ""]
    assert (tmp_path / "a.png").read_bytes() == original


def test_masks_made_elsewhere_are_taken_and_never_overwritten(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png", "sub/b.jpg"])
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        Image.fromarray(DISC.astype(np.uint8) * 255).save(tmp_path / "masks" / f"{name}.png")
    original = (tmp_path / "masks" / "a.png").read_bytes()
    with opened(tmp_path) as session:
        assert [picture["name"] for picture in session.state()["pictures"]] == ["a.png", "sub/b.jpg"]
        for index in range(2):
            session.edit(index, pose())
        assert [record.mask for record in read_table(tmp_path, None)] == ["masks/a.png", "masks/sub/b.png"]
        session.edit(0, {"do": "stroke", "add": False, "radius": 5, "points": [[70, 40]]})
    assert [record.mask for record in read_table(tmp_path, None)] == ["masks/a_2.png", "masks/sub/b.png"]
    assert (tmp_path / "masks" / "a.png").read_bytes() == original


def test_a_table_that_is_there_is_taken_up(tmp_path: pathlib.Path) -> None:
    """Rows stay as they are until their picture is edited; then the true shape's unit is written with the pose."""
    cut_outs(tmp_path, ["a.png", "b.png"])
    write_discs(tmp_path, ["c.png", "two.png"])
    Image.fromarray(DISC.astype(np.uint8) * 255).save(tmp_path / "other.png")
    rows = [
        "image,mask,split,shape,azimuth,elevation,theta,scale,convention",
        "a.png,,val,true.ply,10,20,30,0.25,nmr",
        "c.png,other.png,test,,40,50,60,,nmr",
        "two.png,other.png,train,,1,2,3,,nmr",
        "two.png,a.png,train,,1,2,3,,nmr",
        "elsewhere.png,,train,,7,8,9,,nmr",
    ]
    (tmp_path / "cameras.csv").write_text("\n".join(rows) + "\n")
    with opened(tmp_path) as session:
        assert (tmp_path / "cameras.csv").read_text() == "\n".join(rows) + "\n"
        pictures = {picture["name"]: picture for picture in session.state()["pictures"]}
        assert list(pictures) == ["a.png", "b.png", "c.png", "two.png"]
        assert [picture["state"] for picture in pictures.values()] == ["done", "mask", "done", "nothing"]
        assert "2 rows" in pictures["two.png"]["error"]
        assert session.draft(0)["pose"] == POSE | {
            "azimuth": 10,
            "elevation": 20,
            "theta": 30,
            "scale": 0.25,
            "x": None,
            "y": None,
        }
        with pytest.raises(ValueError, match="2 rows"):
            session.edit(3, pose())
        session.edit(0, pose(azimuth=11))
        session.edit(2, pose(azimuth=41))
    records = {record.image: record for record in read_table(tmp_path, None) if record.image != "two.png"}
    assert records["a.png"].shape == "true.ply"
    assert records["a.png"].split == "val"
    assert records["a.png"].pose.scale == pytest.approx(1.2 * 40 / 120)
    assert (records["c.png"].mask, records["c.png"].split) == ("other.png", "test")
    assert records["c.png"].pose.angles == (41, 10, 0)
    lines = (tmp_path / "cameras.csv").read_text().splitlines()
    assert [line for line in lines if line.startswith(("two", "elsewhere"))] == [
        row.replace(",nmr", ",,,nmr") for row in rows[3:]
    ]


def test_a_skipped_row_keeps_its_other_cells(tmp_path: pathlib.Path) -> None:
    cut_outs(tmp_path, ["a.png"])
    rows = "image,split,shape,azimuth,elevation,theta,scale,convention\na.png,val,true.ply,10,20,30,0.25,nmr\n"
    (tmp_path / "cameras.csv").write_text(rows)
    with opened(tmp_path) as session:
        session.edit(0, {"do": "flag", "name": "skipped", "value": True})
        assert len((tmp_path / "cameras.csv").read_text().splitlines()) == 1
    with opened(tmp_path) as session:
        session.edit(0, {"do": "flag", "name": "skipped", "value": False})
    (record,) = read_table(tmp_path, None)
    assert (record.shape, record.split, record.pose.scale) == ("true.ply", "val", 0.25)
    with opened(tmp_path) as session:  # whose unit the page did not choose
        session.edit(0, pose())
    with opened(tmp_path) as session:
        assert [step.pose and step.pose.scale for step in session.annotations.drafts[0].steps] == [0.25, 0.25, 0.25, None]
        assert session.draft(0)["pose"]["scale"] is None


def test_changes_by_other_programs_are_taken_up_as_steps(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png", "b.png", "c.png"])
    annotate_all(tmp_path)
    text = (tmp_path / "cameras.csv").read_text()
    (tmp_path / "cameras.csv").write_text(text.replace(",40,10,0,", ",45,12,1,"))  # of b.png
    Image.fromarray(DISC.astype(np.uint8) * 255).save(tmp_path / "masks" / "a.png")
    with opened(tmp_path) as session:
        assert session.draft(1)["pose"] == POSE | {
            "azimuth": 45,
            "elevation": 12,
            "theta": 1,
            "scale": None,
            "x": None,
            "y": None,
        }
        assert session.edit(1, {"do": "undo"})["pose"]["azimuth"] == 40
        assert np.array_equal(session.annotations.layers(0).mask >= 128, DISC)
        assert session.edit(0, {"do": "undo"})["mask"] is not None
        assert not np.array_equal(session.annotations.layers(0).mask >= 128, DISC)
        assert (session.draft(2)["undo"], session.draft(2)["redo"]) == (3, 0)
    assert (tmp_path / "cameras.csv").read_text() == text


def test_lost_files_are_written_again(tmp_path: pathlib.Path) -> None:
    """Table and masks follow from the drafts."""
    write_discs(tmp_path, ["a.png", "b.png"])
    annotate_all(tmp_path)
    text = (tmp_path / "cameras.csv").read_text()
    masks = {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    (tmp_path / "cameras.csv").unlink()
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / ".annotations" / "a.png" / ".draft.json.1.tmp").write_text("half")
    with opened(tmp_path):
        pass
    assert (tmp_path / "cameras.csv").read_text() == text
    assert {path: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == masks
    assert not list(tmp_path.rglob("*.tmp"))


def test_broken_pictures_are_listed_and_never_fatal(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["good.png", "late.png"])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "cut.jpg").write_bytes(b"")
    whole = (tmp_path / "late.png").read_bytes()
    (tmp_path / "late.png").write_bytes(whole[: len(whole) // 2])  # whose head is whole
    (tmp_path / ".annotations" / "good.png").mkdir(parents=True)
    (tmp_path / ".annotations" / "good.png" / "draft.json").write_text("{")
    with opened(tmp_path) as session:
        errors = {picture["name"]: picture["error"] for picture in session.state()["pictures"]}
        assert list(errors) == ["bad.png", "cut.jpg", "good.png", "late.png"]
        assert all("Could not read a picture" in errors[name] for name in ("bad.png", "cut.jpg"))
        assert "Move it away" in errors["good.png"]
        with pytest.raises(ValueError, match="Could not read a picture"):
            session.annotations.image(3)
        with pytest.raises(ValueError, match="Could not read a picture"):
            session.edit(0, pose())


def test_a_picture_of_another_size_is_not_mixed_with_its_old_draft(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])
    annotate_all(tmp_path)
    write_discs(tmp_path, ["a.png"], (100, 90))
    with opened(tmp_path) as session:
        assert "120 x 90 pixels, this one has 100 x 90" in session.state()["pictures"][0]["error"]


def test_two_sessions_cannot_have_one_folder(tmp_path: pathlib.Path) -> None:
    write_discs(tmp_path, ["a.png"])
    with opened(tmp_path), pytest.raises(ValueError, match="another annotation page"):
        Session(tmp_path)
    with opened(tmp_path):
        pass


def test_links_to_the_outside_are_neither_read_nor_written(tmp_path: pathlib.Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write_discs(root, ["a.png"])
    write_discs(outside, ["secret.png"])
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "inner.png").symlink_to("a.png")
    with opened(root) as session:
        assert [picture["name"] for picture in session.state()["pictures"]] == ["a.png", "inner.png"]
        (root / "masks").symlink_to(outside)
        with pytest.raises(OSError, match="link to the outside"):
            session.edit(0, BOX)
    with pytest.raises(ValueError, match="link to the outside"):
        Session(root)
    (root / "masks").unlink()
    (root / "cameras.csv").write_text("image,mask,azimuth,elevation,theta,convention\na.png,../outside/secret.png,1,2,3,nmr\n")
    with opened(root) as session:
        assert "below the folder" in session.state()["pictures"][0]["error"]
    assert [path.name for path in outside.iterdir()] == ["secret.png"]


def test_a_folder_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        Session(tmp_path / "gone")
    with pytest.raises(ValueError, match="found none"):
        Session(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_discs(tmp_path, ["a.png"])
    (tmp_path / ".annotations").write_text("a file")
    with pytest.raises(ValueError, match="Could not write"):
        Session(tmp_path)


def test_an_edit_that_cannot_be_written_is_not_acknowledged(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_discs(tmp_path, ["a.png"])
    with opened(tmp_path) as session:
        session.edit(0, pose())

        def full(path: pathlib.Path, content: bytes) -> None:
            raise OSError(f"Could not write {path}: No space left on device.")

        with monkeypatch.context() as patch:
            patch.setattr("sdfsrn.annotating.storage.write_atomically", full)
            with pytest.raises(OSError, match="No space left"):
                session.edit(0, pose(azimuth=50))
        assert session.draft(0)["pose"]["azimuth"] == 30
        session.edit(0, pose(azimuth=60))
    content = json.loads((tmp_path / ".annotations" / "a.png" / "draft.json").read_text())
    assert [step["pose"] and step["pose"]["azimuth"] for step in content["steps"]] == [None, 30, 60]


def test_an_edit_that_is_sent_again_is_done_once(tmp_path: pathlib.Path) -> None:
    """Its answer was lost: the page sends it again with the same key, maybe after a restart."""
    write_discs(tmp_path, ["a.png"])
    with opened(tmp_path) as session:
        for key, azimuth in (("one", 10.0), ("two", 20.0), ("three", 30.0)):
            session.edit(0, pose(azimuth=azimuth) | {"key": key})
        answers = [session.edit(0, {"do": "undo", "key": "four", "seconds": 1.0}) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[1]["pose"]["azimuth"] == 20
    with opened(tmp_path) as session:
        for key in ("four", "two", "one", "two"):  # a page that is reloaded may send all that it has not crossed out
            assert session.edit(0, pose(azimuth=77) | {"key": key})["pose"]["azimuth"] == 20
        assert session.edit(0, {"do": "undo", "key": "five"})["pose"]["azimuth"] == 10
        with pytest.raises(ValueError, match="Expected a key"):
            session.edit(0, {"do": "undo", "key": 6})


def test_an_object_at_the_border_is_flagged_as_cut_off_once(tmp_path: pathlib.Path) -> None:
    """By a mask that is there and by one that is drawn; who takes the flag away is not contradicted."""
    cut_outs(tmp_path, ["a.png", "b.png"])
    whole = np.asarray(Image.open(tmp_path / "b.png"))
    inside = np.flatnonzero((whole[..., 3] >= 128).any(0))
    Image.fromarray(whole[:, inside[0] + 3 :]).save(tmp_path / "b.png")
    with opened(tmp_path) as session:
        assert [picture["cut_off"] for picture in session.state()["pictures"]] == [False, True]
        session.edit(0, {"do": "stroke", "add": True, "radius": 5, "points": [[2, 40]]})
        assert session.summary(0)["cut_off"]
        session.edit(0, {"do": "flag", "name": "cut_off", "value": False})
        session.edit(0, {"do": "stroke", "add": True, "radius": 5, "points": [[2, 50]]})
        assert not session.summary(0)["cut_off"]
