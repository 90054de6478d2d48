"""Broken files from outside: whatever is wrong with them is one line that names the file, and no reader hangs."""

from __future__ import annotations

import contextlib
import json
import pathlib
import resource
import signal
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.io
import torch
import trimesh
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from sdfsrn.checkpoints.authors import load_authors_checkpoint
from sdfsrn.checkpoints.loading import load
from sdfsrn.cli.loading import load_protocol
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.sources.folder import FolderSource
from sdfsrn.data.sources.pascal3d_release import _read_annotation, _record
from sdfsrn.data.sources.shapenet import ShapeNetSource
from sdfsrn.data.sources.table import read_table
from sdfsrn.meshes.io import read_mesh, write_mesh
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models.encoder import load_weights
from sdfsrn.poses.table import read_poses
from sdfsrn.runtime.configs import config_folder, instantiate
from tiny import MODEL, PICTURES

SECONDS = 20  # in which a reader is done with a small file, on a busy machine
MEMORY = 8 << 30  # bytes beyond what is in use that a reader may reserve


class Case(NamedTuple):
    """A file that can be read, and what reads it."""

    path: pathlib.Path
    read: Callable[[], object]


def checkpoint(folder: pathlib.Path) -> Case:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*PICTURES, *MODEL, f"paths.output={folder}", f"paths.cache={folder}"])
    path, model = folder / "best.ckpt", instantiate(config.model)
    kept = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("model", "data", "protocol")}
    torch.save({"state_dict": model.state_dict(), "config": kept}, path)
    return Case(path, lambda: load(path))


def old_checkpoint(folder: pathlib.Path) -> Case:
    """In the format before zip files."""
    path, content = checkpoint(folder)[0], torch.load(folder / "best.ckpt", weights_only=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return Case(path, lambda: load(path))


def authors_checkpoint(folder: pathlib.Path) -> Case:
    path = folder / "authors.ckpt"
    names = {"encoder.fc.weight": (4, 8), "renderer.lstm_pred.weight": (1, 4)}
    names |= {f"generator.hyper_impl.{i}.0.weight": (4, 4) for i in range(2)}
    torch.save({"graph": {name: torch.zeros(shape) for name, shape in names.items()}}, path)
    return Case(path, lambda: load_authors_checkpoint(path))


def authors_settings(folder: pathlib.Path) -> Case:
    case, path = authors_checkpoint(folder), folder / "settings.json"
    path.write_text(json.dumps({"posenc_L": 6, "depth_range": [2.0, 3.5], "loss_weight": {"render": 1.0}}))
    return Case(path, lambda: load_authors_checkpoint(case.path, path))


def encoder_weights(folder: pathlib.Path) -> Case:
    path = folder / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    return Case(path, lambda: load_weights(str(path), 18))


def folder_with(folder: pathlib.Path, shape: str) -> Callable[[], Any]:
    """What reads the points and normals of the shape, in a table's folder."""
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[2:6, 2:6] = 200
    Image.fromarray(rgba).save(folder / "a.png")
    row = f"a.png,test,{shape},10,20,0,0.7,nmr\n"
    (folder / "cameras.csv").write_text("image,split,shape,azimuth,elevation,theta,scale,convention\n" + row)

    def read() -> list[object]:
        source = FolderSource(str(folder), "test", 8)
        return [source.picture(0), source.points(0), source.normals(0), source.occupancy(0, np.zeros((1, 3)))]

    return read


def npz(folder: pathlib.Path) -> Case:
    np.savez(folder / "shape.npz", points=np.random.default_rng(0).normal(size=(40, 3)))
    return Case(folder / "shape.npz", folder_with(folder, "shape.npz"))


def npy(folder: pathlib.Path) -> Case:
    np.save(folder / "shape.npy", np.random.default_rng(0).normal(size=(40, 3)))
    return Case(folder / "shape.npy", folder_with(folder, "shape.npy"))


def cloud(folder: pathlib.Path) -> Case:
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(40, 3))).export(folder / "shape.ply")
    return Case(folder / "shape.ply", folder_with(folder, "shape.ply"))


def cameras(folder: pathlib.Path) -> Case:
    """A file of cameras in the layout of NMR."""
    model = folder / "02691156" / "m"
    for name, picture in {"image": Image.new("RGB", (8, 8), "gray"), "mask": Image.new("L", (8, 8), 255)}.items():
        (model / name).mkdir(parents=True)
        picture.save(model / name / "0000.png")
    pose = np.column_stack([np.eye(3), [0, 0, 3]])
    matrices = {"world_mat_0": pose, "camera_mat_0": np.diag([2.5, 2.5, 1, 1])}
    np.savez(model / "cameras.npz", **matrices)
    np.savez(model / "pointcloud.npz", points=np.ones((4, 3)), normals=np.ones((4, 3)))
    (folder / "02691156" / "softras_test.lst").write_text("m\n")
    return Case(model / "cameras.npz", lambda: ShapeNetSource(str(folder), "airplane", "test").picture(0))


def clouds(folder: pathlib.Path) -> Case:
    cameras(folder)
    source = ShapeNetSource(str(folder), "airplane", "test")
    path = folder / "02691156" / "m" / "pointcloud.npz"
    return Case(path, lambda: (source.points(0), source.normals(0)))


def annotation(folder: pathlib.Path) -> Case:
    """The objects of it are checked as when a split is opened."""
    names = ("azimuth", "elevation", "theta", "distance", "focal", "viewport", "px", "py")
    item = {"class": "car", "bbox": [1.0, 2, 30, 40], "cad_index": 1, "viewpoint": dict.fromkeys(names, 1.0)}
    scipy.io.savemat(folder / "n.mat", {"record": {"objects": item}})
    return Case(folder / "n.mat", lambda: [_record("n", 0, item) for item in _read_annotation(folder / "n.mat")])


def table(folder: pathlib.Path) -> Case:
    folder_with(folder, "")
    return Case(folder / "cameras.csv", lambda: FolderSource(str(folder), "test", 8))


def json_table(folder: pathlib.Path) -> Case:
    row = {"image": "a.png", "convention": "opencv", "intrinsics": [[9, 0, 4], [0, 9, 4], [0, 0, 1]], "split": "test"}
    pose = {"world_to_camera": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3]]}
    (folder / "cameras.json").write_text(json.dumps([row | pose]))
    return Case(folder / "cameras.json", lambda: read_table(folder, None))


def refined_poses(folder: pathlib.Path) -> Case:
    (folder / "poses.csv").write_text("image,azimuth,elevation,theta\na.png,1,2,3\nb.png,4,5,6\n")
    return Case(folder / "poses.csv", lambda: read_poses(folder / "poses.csv"))


def rotation(folder: pathlib.Path) -> Case:
    path = folder / "poses.json"
    path.write_text(json.dumps({"world_rotation": np.eye(3).tolist()}))
    model = type("Model", (), {"protocol": EvaluationProtocol()})()
    return Case(path, lambda: load_protocol({"rotation": str(path)}, model))


def mesh(folder: pathlib.Path, suffix: str) -> Case:
    ball, path = trimesh.creation.icosphere(1), folder / f"a.{suffix}"
    ball.visual.vertex_colors = np.arange(4 * len(ball.vertices), dtype=np.uint8).reshape(-1, 4)
    write_mesh(ball, path) if suffix in ("obj", "ply", "glb") else ball.export(path)
    return Case(path, lambda: read_mesh(path))


def material(folder: pathlib.Path) -> Case:
    """A broken library of materials may cost the colours, or name the mesh that has it."""
    faces = "usemtl red\nf 1/1 2/1 3/1\nusemtl blue\nf 1/1 3/1 4/1\n"
    vertices = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\n"
    (folder / "a.obj").write_text(f"mtllib a.mtl\n{vertices}{faces}")
    (folder / "a.mtl").write_text("newmtl red\nKd 1 0 0\nmap_Kd a.png\nnewmtl blue\nKd 0 0 1\n")
    Image.new("RGB", (2, 2)).save(folder / "a.png")
    return Case(folder / "a.mtl", lambda: read_mesh(folder / "a.obj"))


def picture(folder: pathlib.Path, suffix: str, mode: str = "RGBA") -> Case:
    path, rgba = folder / f"a.{suffix}", np.zeros((12, 12, 4), np.uint8)
    rgba[3:9, 3:9] = 255
    mask = Image.fromarray(rgba[..., 3])
    image = mask.convert(mode) if mode in ("L", "P", "RGB") else Image.fromarray(rgba)
    image.save(path)
    return Case(path, lambda: Preprocessing(8)(path, mask))


CASES: dict[str, Callable[[pathlib.Path], Case]] = {
    **{case.__name__: case for case in (checkpoint, old_checkpoint, authors_checkpoint, authors_settings, encoder_weights)},
    **{case.__name__: case for case in (npz, npy, cloud, cameras, clouds, annotation, table, json_table, refined_poses)},
    **{case.__name__: case for case in (rotation, material)},
    **{suffix: lambda folder, suffix=suffix: mesh(folder, suffix) for suffix in ("obj", "ply", "glb", "off", "stl")},
    **{suffix: lambda folder, suffix=suffix: picture(folder, suffix) for suffix in ("png", "webp", "tif", "gif")},
    **{suffix: lambda folder, suffix=suffix: picture(folder, suffix, "RGB") for suffix in ("jpg", "bmp")},
}


def broken(content: bytes, number: int) -> bytes:
    """A variant of a file: flipped bytes, a part cut off, moved, doubled or overwritten, or junk alone."""
    rng = np.random.default_rng([number, zlib.crc32(content)])
    changed, (first, second) = bytearray(content), sorted(int(x) for x in rng.integers(0, len(content), 2))
    junk = rng.integers(0, 256, int(rng.integers(1, 200)), dtype=np.uint8).tobytes()
    match number % 8:
        case 0:
            return bytes(changed[:first])
        case 1:
            return junk if number % 16 == 1 else b""
        case 2:
            return bytes(changed[:first] + junk + changed[first:])
        case 3:
            return bytes(changed[:first] + changed[second:])
        case 4:
            return bytes(changed[:first] + junk + changed[first + len(junk) :])
        case 5:
            return bytes(changed[:second] + changed[first:])
        case _:
            for place in rng.integers(0, len(content), int(rng.integers(1, 5))):
                changed[place] = int(rng.integers(256)) if number % 8 == 6 else changed[place] ^ (1 << int(rng.integers(8)))
            return bytes(changed)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A hang is an error after SECONDS, and so is a request for MEMORY."""

    def late(*_: object) -> None:
        raise SystemExit(f"no answer within {SECONDS} s")  # which no reader takes for a fault of the file

    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def check(name: str, folder: pathlib.Path, count: int) -> None:
    path, read = CASES[name](folder)
    content, refused = path.read_bytes(), 0
    for number in range(count):
        path.write_bytes(broken(content, number))
        try:
            with limited():
                read()
        except ValueError as error:
            refused += 1
            named = (path.name, path.with_suffix(".obj").name) if name == "material" else (path.name,)
            told = str(error)
            assert any(each in told for each in named), (number, told)
            assert "\n" not in told, (number, told)
        except BaseException as error:
            raise AssertionError(f"variant {number} of {path.name}: {error!r}") from error
    assert refused or name == "material"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_fifty_broken_files(name: str, tmp_path: pathlib.Path) -> None:
    check(name, tmp_path, 50)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_broken_files(name: str, tmp_path: pathlib.Path) -> None:
    check(name, tmp_path, 1000)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("authors_checkpoint", "authors_settings", "encoder_weights")]
)
def test_what_is_not_broken_is_read(name: str, tmp_path: pathlib.Path) -> None:
    """So that the others are refused for what is broken."""
    CASES[name](tmp_path).read()


@pytest.mark.parametrize(
    "content", [b"junk\n", b"\x80\x02", b"PK\x03\x04", b"(lp0\n.", b"cos\nsystem\n(S'ls'\ntR.", b"{}", b"\x80\x04K\x01."]
)
def test_small_junk_is_no_checkpoint(content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(content)
    for read in (load, load_authors_checkpoint):
        with pytest.raises(ValueError, match=r"^[^\n]*bad\.ckpt[^\n]*$"):
            read(tmp_path / "bad.ckpt")
