"""A folder of CAD models to pictures, masks, cameras and clouds in the layout that `ShapeNetSource` reads."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import trimesh

from sdfsrn.data.conventions import NMR_DISTANCE, NMR_ELEVATION, NMR_FOCAL
from sdfsrn.data.source import SPLITS, ImageSample, check_picture
from sdfsrn.data.sources.shapenet import SYNSETS
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin
from sdfsrn.meshes.io import READABLE, read_mesh
from sdfsrn.meshes.rendering import render_mesh
from sdfsrn.meshes.scanning import outer_surface
from sdfsrn.runtime.files import npz_bytes, png_bytes, write_atomically
from sdfsrn.runtime.parallel import run_jobs
from sdfsrn.runtime.texts import read_json, read_text

SHAPENET = "models/model_normalized.obj"  # of a model's folder
SETTINGS = "render.json"
X, Y, Z = np.eye(3)
AXES = {"x": X, "y": Y, "z": Z, "+x": X, "+y": Y, "+z": Z, "-x": -X, "-y": -Y, "-z": -Z}


def render_models(
    models: str,
    root: str,
    category: str,
    num_workers: int | None = None,
    num_views: int = 24,
    image_size: int = 64,
    supersampling: int = 4,
    num_points: int = 30_000,
    up: str = "y",
    front: str = "-z",
    lists: str | None = None,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> dict[str, Any]:
    """Render every model as Kato et al. did ShapeNet's, into `<root>/<synset>/<model>/`; what is there already stays.

    Models are turned to y up and front to -z, and scaled to fit a zero-centred unit cube tightly. View i of n stands at
    azimuth 360 i / n, elevation 30 degrees, distance 2.732. Models of val and test also get a scan of their outer surface;
    training needs none. A model's folder appears whole or not at all, so a run that was stopped is continued by the next;
    two at once on one root are not foreseen. Appendix B.1, arXiv:2010.10505.

    Args:
        models: ShapeNetCore.v2, or any folder of meshes, also in subfolders; `a/b.obj` becomes model `a-b`.
        root: folder for the synsets, not inside `models`.
        category: airplane, car, chair, a synset number or any name of a folder.
        num_workers: processes; None takes all cores.
        num_views: pictures per model.
        image_size: their side in pixels.
        supersampling: lines of sight per pixel, along each side.
        num_points: of a scan.
        up: axis of the model files: x, y, z, -x, -y or -z.
        front: another one.
        lists: folder with softras_train.lst, softras_val.lst and softras_test.lst, or with the synset's folder that has
            them; models they name that are not there are counted, models they do not name are not rendered.
        fractions: without `lists`, the chances of a model to fall in train, val and test. Its name and `seed` alone decide.
        seed: of that draw.

    Returns:
        Counts: models (found), rendered (now), train, val, test, missing (named in `lists`, not found); and
        skipped: why models could not be used, by name; no list has them. And incomplete: what models rendered now name and do
        not have, such as materials, by name.

    Raises:
        ValueError: no models found, nothing usable, wrong settings, or others than those of the pictures in `root`.
    """
    synset = SYNSETS.get(category, category)
    if pathlib.PurePath(synset).name != synset or synset in (".", "..", ""):
        raise ValueError(f"Expected a category that is a plain folder name, got {category!r}.")
    if pathlib.Path(root).resolve().is_relative_to(pathlib.Path(models).resolve()):
        raise ValueError(f"Expected a root outside of the folder of models {models}, got {root}.")
    if num_views < 1 or image_size < 1 or supersampling < 1 or num_points < 1:
        raise ValueError("Expected positive num_views, image_size, supersampling and num_points.")
    turn = _rotation(up, front)
    paths = _find(pathlib.Path(models), synset)
    splits = _draw(paths, fractions, seed) if lists is None else _read_lists(pathlib.Path(lists), synset)
    split_of = {name: split for split in SPLITS for name in splits[split] if name in paths}
    if not split_of:
        raise ValueError(f"Expected lists that name models of {models}, such as {min(paths)}, got none of them in {lists}.")
    folder = pathlib.Path(root) / synset
    settings = {"views": num_views, "size": image_size, "supersampling": supersampling, "points": num_points}
    _prepare(folder, {**settings, "up": up, "front": front})

    jobs = {
        name: (str(paths[name]), str(folder / name), settings, turn, split != "train")
        for name, split in sorted(split_of.items())
        if not _complete(folder / name, split != "train")
    }
    incomplete: dict[str, str] = {}
    skipped = run_jobs(_render, jobs, "Rendering", num_workers, "models", incomplete)
    usable = {split: sorted(name for name in split_of if split_of[name] == split and name not in skipped) for split in SPLITS}
    if not any(usable.values()):
        raise ValueError(
            f"Expected models that can be used in {models}, got none; the first failed: {next(iter(skipped.values()))}"
        )
    for split, names in usable.items():
        write_atomically(folder / f"softras_{split}.lst", "".join(f"{name}\n" for name in names).encode())
    return {
        "models": len(paths),
        "rendered": len(jobs) - len(skipped),
        "skipped": skipped,
        "incomplete": incomplete,
        "missing": sum(name not in paths for names in splits.values() for name in names),
        **{split: len(names) for split, names in usable.items()},
    }


def cameras(num_views: int) -> PerspectiveCamera:
    """The cameras of all views, float64: (n, 3, 4), (n, 3, 3)."""
    azimuth = torch.arange(num_views, dtype=torch.float64) * 2 * torch.pi / num_views
    elevation = torch.full_like(azimuth, np.deg2rad(NMR_ELEVATION))
    intrinsics = torch.diag(torch.tensor([NMR_FOCAL, NMR_FOCAL, 1.0], dtype=torch.float64))
    return PerspectiveCamera(look_at_origin(azimuth, elevation, NMR_DISTANCE), intrinsics.expand(num_views, 3, 3))


def unit_cube(mesh: trimesh.Trimesh, turn: np.ndarray) -> trimesh.Trimesh:
    """A turned copy, its bounding box centred at 0 with a longest side of 1."""
    transform = np.eye(4)
    transform[:3, :3] = turn
    turned = mesh.copy().apply_transform(transform)
    return turned.apply_translation(-turned.bounds.mean(0)).apply_scale(1 / turned.extents.max())


def _rotation(up: str, front: str) -> np.ndarray:
    """Takes the axis `up` to +y and `front` to -z."""
    if up not in AXES or front not in AXES or AXES[up] @ AXES[front] != 0:
        raise ValueError(f"Expected two different axes of x, y, z, -x, -y, -z as up and front, got {up!r} and {front!r}.")
    return np.stack([np.cross(AXES[front], AXES[up]), AXES[up], -AXES[front]])


def _find(models: pathlib.Path, synset: str) -> dict[str, pathlib.Path]:
    """The models' files by name."""
    if not models.is_dir():
        raise ValueError(f"Expected a folder of models, but {models} does not exist or is no folder.")
    for folder in (models / synset, models):
        found = {path.parents[1].name: path for path in folder.glob(f"*/{SHAPENET}")}
        if found:
            return found
    if any(models.glob(f"*/*/{SHAPENET}")):
        raise ValueError(f"Expected {models}/{synset}/<model>/{SHAPENET} as in ShapeNetCore.v2, got only other synsets there.")
    found = {}
    for path in sorted(models.rglob("*")):
        inner = path.relative_to(models)
        if path.suffix.lower() in READABLE and path.is_file() and not any(part.startswith(".") for part in inner.parts):
            name = "_".join("-".join(inner.with_suffix("").parts).split())  # lists are split at white space
            if name in found:
                raise ValueError(f"Expected one file for model {name}, got {found[name]} and {path}: rename or remove one.")
            found[name] = path
    if not found:
        raise ValueError(
            f"Expected {models}/{synset}/<model>/{SHAPENET} as in ShapeNetCore.v2, or meshes ({', '.join(READABLE)}) anywhere "
            f"below {models}, got neither."
        )
    return found


def _draw(names: Sequence[str] | dict[str, Any], fractions: Sequence[float], seed: int) -> dict[str, list[str]]:
    """Splits by chance, each model's own: more models move none."""
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"Expected three fractions that sum to 1 for train, val and test, got {list(fractions)}.")
    bounds = shares.cumsum()[:2]
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        chance = int.from_bytes(digest[:6], "big") / 2**48
        splits[SPLITS[int((chance >= bounds).sum())]].append(name)
    return splits


def _read_lists(folder: pathlib.Path, synset: str) -> dict[str, list[str]]:
    folder = folder / synset if (folder / synset).is_dir() else folder
    paths = {split: folder / f"softras_{split}.lst" for split in SPLITS}
    for path in paths.values():
        if not path.is_file():
            raise ValueError(f"Expected the list of models {path}, which does not exist.")
    splits = {split: read_text(path).split() for split, path in paths.items()}
    names = [name for split in splits.values() for name in split]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Expected each model once in the lists of {folder}, got {twice} more often.")
    return splits


def _prepare(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Remove what a killed run left, and see that the pictures in the folder are of these settings."""
    path = folder / SETTINGS
    if path.is_file():
        before = read_json(path, "settings")
        if before != settings:
            raise ValueError(
                f"Expected the settings of the pictures in {folder}, {before}, got {settings}: "
                "delete that folder to render again, or choose another root."
            )
    elif folder.is_dir() and any(folder.glob("[!.]*")):
        raise ValueError(f"Expected a new folder or one with {SETTINGS}, got other data in {folder}: choose another root.")
    for partial in folder.glob(".*.tmp"):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    for partial in folder.glob("*/.*.tmp"):
        partial.unlink()
    write_atomically(path, json.dumps(settings, indent=2).encode())


def _complete(folder: pathlib.Path, scanned: bool) -> bool:
    return folder.is_dir() and (not scanned or (folder / "pointcloud.npz").is_file())


def _render(path: str, target: str, settings: dict[str, int], turn: np.ndarray, scanned: bool) -> str | None:
    """Fill a model's folder, or add the scan to one that has pictures; what the model lacks, if anything.

    Raises:
        ValueError: it cannot be used.
    """
    read = read_mesh(path)
    missing = ", ".join(read.metadata["missing"]) or None
    mesh = unit_cube(read, turn)
    folder = pathlib.Path(target)
    cloud = _scan(mesh, settings["points"]) if scanned else None
    if folder.is_dir() and cloud is not None:
        write_atomically(folder / "pointcloud.npz", cloud)
        return missing
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        (partial / "image").mkdir(parents=True)
        (partial / "mask").mkdir()
        _write_views(mesh, partial, settings, path)
        if cloud is not None:
            (partial / "pointcloud.npz").write_bytes(cloud)
        if not folder.is_dir():  # by now a worker that outlived a killed run may have made it
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return missing


def _scan(mesh: trimesh.Trimesh, num_points: int) -> bytes:
    points, normals = outer_surface(mesh, num_points)
    return npz_bytes(points=points, normals=normals)


def _write_views(mesh: trimesh.Trimesh, folder: pathlib.Path, settings: dict[str, int], source: str) -> None:
    matrices = {}
    for i, (world, intrinsics) in enumerate(zip(*cameras(settings["views"]), strict=True)):
        camera = PerspectiveCamera(world, intrinsics)
        seen = render_mesh(mesh, camera, settings["size"], settings["supersampling"])
        mask = np.round(seen.mask * 255).astype(np.uint8)
        check_picture(ImageSample(seen.surface, mask.astype(np.float32) / 255, camera), f"view {i} of {source}")
        (folder / "image" / f"{i:04d}.png").write_bytes(png_bytes(seen.surface))
        (folder / "mask" / f"{i:04d}.png").write_bytes(png_bytes(mask))
        matrices[f"world_mat_{i}"], matrices[f"camera_mat_{i}"] = np.eye(4), np.eye(4)
        matrices[f"world_mat_{i}"][:3] = world.numpy()
        matrices[f"camera_mat_{i}"][:3, :3] = intrinsics.numpy()
    (folder / "cameras.npz").write_bytes(npz_bytes(**matrices))
