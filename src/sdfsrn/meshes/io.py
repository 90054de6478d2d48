"""Mesh files with colours: writing and reading."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from sdfsrn.meshes.materials import materials_of, stack_materials
from sdfsrn.meshes.obj import Neighbours, plain_obj
from sdfsrn.runtime.files import reading, write_atomically

SUFFIXES = (".ply", ".obj", ".glb")
READABLE = (".obj", ".off", ".ply", ".glb", ".gltf", ".stl")


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Write a mesh with its vertex colours, atomically; the suffix of `path`, .ply, .obj or .glb, selects the format.

    Vertices stay in the world frame, y up, as viewers of GLB expect. Colours are sRGB in PLY and OBJ, and linear in GLB, whose
    8 bits lose precision in dark colours. Raises ValueError for an unknown suffix or a mesh without faces.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f'Expected a path that ends in {", ".join(SUFFIXES)}, got "{path}"')
    if len(mesh.faces) == 0:
        raise ValueError(f'Expected a mesh with faces, got an empty one for "{path}": report it instead of writing it')
    if suffix == ".ply":
        content = _export(mesh, "ply", vertex_normal=False)
    elif suffix == ".obj":
        content = _obj(mesh)
    else:
        content = _glb(mesh)
    write_atomically(path, content)


def read_mesh(path: Path | str) -> trimesh.Trimesh:
    """Read a mesh (.obj, .off, .ply, .glb, .gltf or .stl); its `visual` is a `FaceMaterials`.

    A scene's parts become one mesh in the scene's frame; vertices are not merged. Materials and pictures are read from the
    file's folder, its parent, and their subfolders only. A part whose picture is missing has its material's plain colour; what
    an OBJ names that is not there is in `metadata["missing"]`.

    Raises:
        ValueError: a missing or broken file, an unknown format, no faces, NaN or infinite vertices, or no extent.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise ValueError(f"Expected a mesh that ends in {', '.join(READABLE)}, got {path}.")
    with reading(path, "a mesh"):
        resolver, content = Neighbours(str(path)), path.read_bytes()
        content, missing = plain_obj(content, resolver) if suffix == ".obj" else (content, [])
        scene: Any = trimesh.load(BytesIO(content), file_type=suffix[1:], resolver=resolver, force="scene", process=False)
        places = [scene.graph[node] for node in scene.graph.nodes_geometry]
        parts = [(scene.geometry[name], transform) for transform, name in places]
        mesh = _joined([_placed(*part, linear=suffix in (".glb", ".gltf")) for part in parts if hasattr(part[0], "faces")])
    mesh.metadata["missing"] = missing
    if len(mesh.faces) == 0:
        raise ValueError(f"Expected a mesh with faces, got none in {path}.")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"Expected finite vertices, got NaN or infinity in {path}.")
    if mesh.extents.max() == 0:
        raise ValueError(f"Expected a mesh of some size, got all its vertices in one place in {path}.")
    return mesh


def mesh_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "n 4"] | None:
    """RGBA of the vertices, those of faces averaged; None for a mesh without such colours."""
    visual = mesh.visual
    return np.asarray(visual.vertex_colors) if isinstance(visual, ColorVisuals) and visual.defined else None


def srgb_to_linear(color: UInt8[np.ndarray, "*n 4"]) -> UInt8[np.ndarray, "*n 4"]:
    """sRGB to linear bytes: c / 12.92 up to 0.04045, else ((c + 0.055) / 1.055)^2.4; alpha stays. IEC 61966-2-1."""
    c = color[..., :3] / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.concatenate([np.round(linear * 255).astype(np.uint8), color[..., 3:]], -1)


def _obj(mesh: trimesh.Trimesh) -> bytes:
    """Vertices with their colours, then faces: in a third of the time that trimesh takes."""
    colors = mesh_colors(mesh)
    values = mesh.vertices if colors is None else np.hstack([mesh.vertices, colors[:, :3] / 255])
    vertex = "v" + values.shape[1] * " %.8f" + "\n"
    vertices = vertex * len(values) % tuple(values.ravel().tolist())
    return (vertices + "f %d %d %d\n" * len(mesh.faces) % tuple((mesh.faces + 1).ravel().tolist())).encode()


def _glb(mesh: trimesh.Trimesh) -> bytes:
    """With normals, since viewers shade flat without; double-sided, so that an open surface shows its back."""
    visual = TextureVisuals(material=PBRMaterial(metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True))
    colors = mesh_colors(mesh)
    if colors is not None:
        visual.vertex_attributes["color"] = srgb_to_linear(colors)
    shaded = trimesh.Trimesh(mesh.vertices, mesh.faces, visual=visual, process=False)
    return _export(shaded, "glb", include_normals=True, unitize_normals=True)


def _export(mesh: trimesh.Trimesh, file_type: str, **options: Any) -> bytes:
    content = mesh.export(file_type=file_type, **options)
    return content if isinstance(content, bytes) else str(content).encode()


def _placed(part: Any, transform: np.ndarray, linear: bool) -> Any:
    """A copy with `FaceMaterials` in the scene's frame, faces flipped if that mirrors it; `linear` as in `materials_of`."""
    if len(part.faces) > 0 and (part.faces.min() < 0 or part.faces.max() >= len(part.vertices)):
        raise ValueError("a face names a missing vertex")
    placed: Any = trimesh.Trimesh(part.vertices, part.faces, process=False).apply_transform(transform)
    placed.visual = materials_of(part.visual, placed.faces, linear)
    return placed


def _joined(parts: list[Any]) -> trimesh.Trimesh:
    if not parts:
        return trimesh.Trimesh()
    start = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + first for part, first in zip(parts, start[:-1], strict=True)])
    visual: Any = stack_materials([part.visual for part in parts])  # trimesh's stubs name its own kinds only
    return trimesh.Trimesh(vertices, faces, visual=visual, process=False)
