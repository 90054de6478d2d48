import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import maximum_filter

from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.preparing import render_models as models
from sdfsrn.data.preparing.render_models import cameras, render_models
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.runtime.files import read_npz
from sdfsrn.runtime.parallel import run_jobs

QUICK = {"num_workers": 0, "num_views": 4, "supersampling": 2, "num_points": 500}


def save(mesh: trimesh.Trimesh, path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.export(path)
    return path


def ball(radius: float = 0.7) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=radius).apply_translation([3, 4, 5])


def cross() -> trimesh.Trimesh:
    """Along the file's axes: long on x with a red end at +x, a green top at +z, a blue arm at +y."""
    boxes = {(0, 0, 0): ((2, 0.2, 0.2), [90, 90, 90]), (0.9, 0, 0): ((0.4, 0.5, 0.5), [255, 0, 0])}
    boxes |= {(0, 0, 0.4): ((0.2, 0.2, 0.8), [0, 255, 0]), (0, 0.4, 0): ((0.2, 0.8, 0.2), [0, 0, 255])}
    parts = []
    for place, (extents, color) in boxes.items():
        part = trimesh.creation.box(extents).apply_translation(place)
        part.visual.face_colors = [*color, 255]
        parts.append(part)
    return trimesh.util.concatenate(parts)


@pytest.fixture
def balls(tmp_path: pathlib.Path) -> pathlib.Path:
    """Twelve balls, in four formats, some in subfolders."""
    for i in range(12):
        folder = tmp_path / "models" / ("deep" if i % 3 == 0 else "")
        save(ball(1 + i), folder / f"m{i}.{('off', 'ply', 'glb', 'stl')[i % 4]}")
    return tmp_path / "models"


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def picture(folder: pathlib.Path, view: int) -> np.ndarray:
    return np.asarray(Image.open(folder / "image" / f"{view:04d}.png")).astype(int)


def test_silhouette_of_a_ball_is_the_analytic_one(tmp_path: pathlib.Path) -> None:
    save(trimesh.creation.icosphere(subdivisions=5).apply_translation([1, 2, 3]), tmp_path / "models" / "a.ply")
    render_models(str(tmp_path / "models"), str(tmp_path / "out"), "airplane", 0, num_views=3, fractions=(0, 0, 1))
    x, y = np.meshgrid(*[(2 * np.arange(64) + 1) / 64 - 1] * 2)
    slope = 0.5 / np.sqrt(2.732**2 - 0.5**2) * 3.7320508
    for view in range(3):
        mask = np.asarray(Image.open(tmp_path / "out" / "02691156" / "a" / "mask" / f"{view:04d}.png")) / 255
        radius = np.hypot(x, y)
        assert (mask[radius < slope - 1 / 32] == 1).all()
        assert (mask[radius > slope + 1 / 32] == 0).all()
        assert mask.sum() * 4 / 64**2 == pytest.approx(np.pi * slope**2, rel=0.005)


def test_models_are_turned_centred_scaled_and_keep_their_colours(tmp_path: pathlib.Path) -> None:
    """A file with z up and its front at +x: the blue arm at the file's +y is on the left, so at -x of the world."""
    save(cross().apply_translation([5, 6, 7]).apply_scale(3), tmp_path / "models" / "a.ply")
    out = tmp_path / "out"
    render_models(
        str(tmp_path / "models"), str(out), "car", **{**QUICK, "num_points": 5000}, up="z", front="x", fractions=(0, 0, 1)
    )
    points = np.load(out / "02958343" / "a" / "pointcloud.npz")["points"]
    size = np.array([2.1, 0, 0])  # the file's x runs from -1 to 1.1, its y from -0.25 to 0.8, its z likewise
    np.testing.assert_allclose(points.min(0), [-0.25, -0.25, -0.5], atol=0.01)
    np.testing.assert_allclose(points.max(0), [0.25, 0.25, 0.5], atol=0.01)
    assert size.max() == 2.1
    middle = [picture(out / "02958343" / "a", view) for view in range(4)]
    red, green, blue = (
        [(p[..., i] > 90) & (p[..., (i + 1) % 3] < 30) & (p[..., (i + 2) % 3] < 30) for p in middle] for i in range(3)
    )
    rows, columns = zip(*(np.argwhere(g).mean(0) for g in green), strict=True)
    assert max(rows) < 32  # up
    assert red[0].sum() > 2 * red[2].sum()  # front: view 0 looks at it
    assert np.argwhere(red[1])[:, 1].mean() > 40  # from the right, the front is on the right
    assert np.argwhere(red[3])[:, 1].mean() < 24
    assert np.argwhere(blue[0])[:, 1].mean() > 33  # its left, as seen by whom it faces, is on the right
    assert np.argwhere(blue[2])[:, 1].mean() < 31
    assert columns[0] == pytest.approx(columns[2], abs=14)


def test_source_reads_the_result_and_clouds_fall_into_the_masks(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    save(cross(), balls / "cross.ply")
    options = {**QUICK, "supersampling": 8, "num_views": 2}
    summary = render_models(str(balls), str(tmp_path / "out"), "any", **options, fractions=(0.4, 0.3, 0.3))
    assert summary["models"] == summary["rendered"] == 13
    assert summary["skipped"] == {}
    assert summary["train"] + summary["val"] + summary["test"] == 13
    for split in ("train", "val", "test"):
        source = ShapeNetSource(str(tmp_path / "out"), "any", split, num_points=400)
        assert len({model for model, _ in source.records}) == summary[split] > 0
        for i in range(len(source)):
            sample = torch.utils._pytree.tree_map(lambda tensor: tensor[0], PictureDataset(source).views([i]))
            assert sample.image.shape == (3, 64, 64)
            cloud = tmp_path / "out" / "any" / source.records[i][0] / "pointcloud.npz"
            assert cloud.exists() == (split != "train")
            if split == "train":
                continue
            assert sample.points.shape == (400, 3)
            view = source.picture(i)
            uv, depth = view.camera.project(sample.points[None])
            pixel = ((view.camera.screen(uv)[0] + 1) * 32).floor().long()
            covered = view.alpha > 0
            assert covered[pixel[:, 1], pixel[:, 0]].mean() > 0.995
            assert maximum_filter(covered, 3)[pixel[:, 1], pixel[:, 0]].all()
            assert (depth > 2).all()
            normals = read_npz(cloud, ["normals"])["normals"]
            np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
            assert (np.asarray(view.image)[view.alpha == 0] == 0).all()


def test_cameras_are_those_of_the_released_renderings(airplanes: pathlib.Path) -> None:
    real = np.load(airplanes / "02691156" / "747" / "cameras.npz")
    ours = cameras(24)
    for i in range(24):
        np.testing.assert_allclose(ours.world_to_camera[i], real[f"world_mat_{i}"][:3, :4], atol=1e-5)
        np.testing.assert_allclose(ours.intrinsics[i], real[f"camera_mat_{i}"][:3, :3], atol=1e-5)


def test_written_cameras_are_read_as_they_are(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    render_models(str(balls), str(tmp_path / "out"), "any", **QUICK, fractions=(1, 0, 0))
    source = ShapeNetSource(str(tmp_path / "out"), "any", "train")
    for i in range(4):
        camera = source.picture(i).camera
        torch.testing.assert_close(camera.world_to_camera, cameras(4).world_to_camera[i].float())
        torch.testing.assert_close(camera.intrinsics, cameras(4).intrinsics[i].float())


def shapenet(root: pathlib.Path, names: str) -> pathlib.Path:
    """Walls with a picture of their own colour, in ShapeNetCore.v2's layout."""
    for i, name in enumerate(names):
        folder = root / "02691156" / name
        (folder / "models").mkdir(parents=True)
        (folder / "images").mkdir()
        Image.fromarray(np.full((4, 4, 3), np.eye(3)[i % 3] * 255, np.uint8)).save(
            folder / "images" / "texture0.jpg", quality=100
        )
        (folder / "models" / "model_normalized.mtl").write_text("newmtl m\nKd 1 1 1\nmap_Kd ../images/texture0.jpg\n")
        box = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
        faces = "".join(f"f {a}/1 {b}/2 {c}/3\n" for a, b, c in trimesh.creation.box().faces + 1)
        (folder / "models" / "model_normalized.obj").write_text(
            f"mtllib model_normalized.mtl\n{box}vt 0 0\nvt 3 0\nvt 0 3\nusemtl m\n{faces}"
        )
    return root


@pytest.mark.parametrize("inner", ["", "02691156"])
def test_shapenet_with_its_lists_and_pictures(tmp_path: pathlib.Path, inner: str) -> None:
    core = shapenet(tmp_path / "core", "abcdef")
    (tmp_path / "lists" / "02691156").mkdir(parents=True)
    for split, names in {"train": "a b gone", "val": "c", "test": "d lost"}.items():
        (tmp_path / "lists" / "02691156" / f"softras_{split}.lst").write_text(names.replace(" ", "\n"))
    summary = render_models(str(core / inner), str(tmp_path / "out"), "airplane", lists=str(tmp_path / "lists"), **QUICK)
    assert summary == {
        "models": 6,
        "rendered": 4,
        "skipped": {},
        "incomplete": {},
        "missing": 2,
        "train": 2,
        "val": 1,
        "test": 1,
    }
    out = tmp_path / "out" / "02691156"
    assert (out / "softras_train.lst").read_text() == "a\nb\n"
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["a", "b", "c", "d"]
    for i, name in enumerate("abcd"):
        assert picture(out / name, 0)[32, 32].argmax() == i % 3
        assert np.sort(picture(out / name, 0)[32, 32])[1] < 15
    again = render_models(
        str(core / inner), str(tmp_path / "out"), "airplane", lists=str(tmp_path / "lists" / "02691156"), **QUICK
    )
    assert again == {**summary, "rendered": 0}


def test_bad_models_are_on_no_list(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (balls / "corrupt.glb").write_bytes(b"glTF, not")
    (balls / "empty.off").write_text("OFF\n0 0 0\n")
    (balls / "nan.off").write_text("OFF\n3 1 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n")
    (balls / "line.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0.5 0 0\n3 0 1 2\n")  # no view shows it
    for _ in range(2):  # and again: they are tried anew
        summary = render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)
        assert set(summary["skipped"]) == {"corrupt", "empty", "nan", "line"}
        assert "finite" in summary["skipped"]["nan"]
        assert str(balls / "corrupt.glb") in summary["skipped"]["corrupt"]
        assert summary["models"] == 16
        assert summary["train"] + summary["val"] + summary["test"] == 12
    out = tmp_path / "out" / "any"
    listed = [name for path in out.glob("*.lst") for name in path.read_text().split()]
    assert sorted(listed) == sorted(path.name for path in out.iterdir() if path.is_dir())
    assert not set(listed) & set(summary["skipped"])


def test_more_models_move_none_and_cost_only_themselves(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def splits() -> dict[str, str]:
        paths = (tmp_path / "out" / "any").glob("softras_*.lst")
        return {name: path.name for path in paths for name in path.read_text().split()}

    last = balls / "m11.stl"
    last.rename(tmp_path / "m11.stl")
    assert render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)["rendered"] == 11
    before, content = splits(), files(tmp_path / "out")
    (tmp_path / "m11.stl").rename(last)
    assert render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)["rendered"] == 1
    assert before.items() < splits().items()
    assert all(files(tmp_path / "out")[name] == data for name, data in content.items() if not name.endswith(".lst"))
    for seed in range(1, 4):  # another draw: models that now need a cloud get one, their pictures stay
        render_models(str(balls), str(tmp_path / "out"), "any", **QUICK, seed=seed, fractions=(0.2, 0.4, 0.4))
        ShapeNetSource(str(tmp_path / "out"), "any", "test").points(0)
        clouds = {path.parent.name for path in (tmp_path / "out" / "any").glob("*/pointcloud.npz")}
        assert {name for name, split in splits().items() if split != "softras_train.lst"} <= clouds
    assert splits() != before


def test_chances_are_the_fractions() -> None:
    counts = [len(names) for names in models._draw({str(i): None for i in range(5000)}, (0.7, 0.1, 0.2), 0).values()]
    assert np.allclose(counts, [3500, 500, 1000], atol=120)


def test_jobs_can_be_sent_to_other_processes(
    balls: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(function, jobs, *arguments):
        return run_jobs(*pickle.loads(pickle.dumps((function, jobs))), *arguments)

    monkeypatch.setattr(models, "run_jobs", send)
    assert render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)["rendered"] == 12


@pytest.mark.slow
def test_processes_give_the_same_files(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name, count in (("one", 0), ("two", 2)):
        options = {**QUICK, "num_workers": count}
        render_models(str(balls), str(tmp_path / name), "any", **options, fractions=(0, 0, 1))
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, content in one.items():
        if name.endswith(".npz"):  # whose archives hold the time
            a, b = np.load(tmp_path / "one" / name), np.load(tmp_path / "two" / name)
            assert all(np.array_equal(a[key], b[key]) for key in a.files)
        else:
            assert content == two[name]


KILLER = """
import os, pathlib, random, signal, sys, time
import torch
from sdfsrn.data.preparing.render_models import render_models

torch.set_num_threads(1)
models, root = sys.argv[1:]
out, generator = pathlib.Path(root) / "any", random.Random(0)
for attempt in range(4):
    done = len(list(out.glob("m*")) + list(out.glob("deep*")))
    child = os.fork()
    if child == 0:
        render_models(models, root, "any", num_workers=0, num_views=4, supersampling=2, num_points=500)
        os._exit(0)
    while len(list(out.glob("m*")) + list(out.glob("deep*"))) <= done:
        time.sleep(0.001)
    time.sleep(generator.uniform(0, 0.03))
    while attempt % 2 and not list(out.glob(".*.tmp")):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(*sorted(path.name for path in out.iterdir()), sep="|")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_runs_are_continued(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", KILLER, str(balls), str(tmp_path / "out")]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    left = [line.split("|") for line in output.splitlines()]
    counts = [len([name for name in names if not name.startswith(".") and name != "render.json"]) for names in left]
    out = tmp_path / "out" / "any"
    assert 0 < counts[0] < counts[1] < counts[-1] < 12
    assert any(name.endswith(".tmp") for names in left for name in names)
    for folder in out.glob("[!.]*/"):
        assert len(list(folder.glob("image/*.png"))) == len(list(folder.glob("mask/*.png"))) == 4
        assert len(np.load(folder / "cameras.npz").files) == 8
    (out / ".m3.999.tmp" / "image").mkdir(parents=True)
    (out / ".render.json.999.tmp").write_text("{")
    assert render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)["rendered"] == 12 - counts[-1]
    render_models(str(balls), str(tmp_path / "whole"), "any", **QUICK)
    assert files(tmp_path / "out").keys() == files(tmp_path / "whole").keys()
    assert not list(out.glob(".*"))


def test_other_settings_and_other_data_are_noticed(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = str(tmp_path / "out")
    render_models(str(balls), out, "any", **QUICK)
    before = files(tmp_path / "out")
    for change in ({"image_size": 32}, {"num_views": 5}, {"supersampling": 3}, {"num_points": 9}, {"up": "z", "front": "x"}):
        with pytest.raises(ValueError, match=r"out/any.*delete that folder to render again"):
            render_models(str(balls), out, "any", **{**QUICK, **change})
    assert files(tmp_path / "out") == before
    assert json.loads(before["any/render.json"])["views"] == 4
    (tmp_path / "out" / "any" / "render.json").write_text("{")
    with pytest.raises(ValueError, match=r"render\.json"):
        render_models(str(balls), out, "any", **QUICK)
    (tmp_path / "out" / "any" / "render.json").unlink()
    with pytest.raises(ValueError, match="got other data in"):
        render_models(str(balls), out, "any", **QUICK)


def test_clashing_names_are_reported(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    save(ball(), balls / "deep" / "x y.off")
    save(ball(), balls / "deep-x_y.stl")
    with pytest.raises(ValueError, match=r"model deep-x_y, got .*x y\.off and .*deep-x_y\.stl|x_y\.stl and .*x y\.off"):
        render_models(str(balls), str(tmp_path / "out"), "any", **QUICK)


def test_wrong_folders_and_settings(balls: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def attempt(
        message: str, models: pathlib.Path = balls, root: pathlib.Path = tmp_path / "out", category: str = "any", **options
    ) -> None:
        with pytest.raises(ValueError, match=message):
            render_models(str(models), str(root), category, **{**QUICK, **options})

    attempt("nowhere does not exist", tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    attempt(r"model_normalized\.obj as in ShapeNetCore\.v2, or meshes", tmp_path / "void")
    attempt("only other synsets", shapenet(tmp_path / "core", "a"), category="chair")
    attempt("outside of the folder of models", root=balls)
    attempt("outside of the folder of models", root=balls / "deep" / "out")
    attempt("plain folder name, got '../any'", category="../any")
    attempt("two different axes", up="y", front="-y")
    attempt("two different axes", up="w")
    attempt("sum to 1", fractions=(0.5, 0.5, 0.5))
    attempt("sum to 1", fractions=(0.5, 0.5))
    attempt("positive num_views", num_views=0)
    attempt(r"softras_train\.lst, which does not exist", lists=str(tmp_path / "void"))
    for split, names in {"train": "p", "val": "q", "test": "r"}.items():
        (tmp_path / "void" / f"softras_{split}.lst").write_text(names)
    attempt("lists that name models of .*, such as deep-m0, got none", lists=str(tmp_path / "void"))
    (tmp_path / "void" / "softras_val.lst").write_text("p")
    attempt("once in the lists of .*, got p more", lists=str(tmp_path / "void"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.off").write_text("OFF\n")
    attempt(r"got none; the first failed: .*a\.off", tmp_path / "bad")
