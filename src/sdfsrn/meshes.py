"""Mesh files in colour, points on a mesh, and its largest piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, UInt8
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from sdfsrn.files import write_atomically

SUFFIXES = (".ply", ".obj", ".glb")


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Write a mesh with its vertex colours; the suffix of `path`, .ply, .obj or .glb, chooses the format.

    Vertices are written as they are: world frame, y up, which is also what viewers of GLB expect. Vertex colours are
    sRGB and stay so in PLY and OBJ; glTF asks for linear ones (8 bits, so very dark colours lose a little). The file
    appears whole or not at all. Raises ValueError for an unknown suffix and for a mesh without faces.
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
        content = _export(mesh, "obj", include_normals=False)
    else:
        content = _glb(mesh)
    write_atomically(path, content)


def sample_surface(
    mesh: trimesh.Trimesh, count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """`count` points uniform over the surface and the outward unit normals there (float64, world frame).

    The same seed gives the same points. An empty mesh has empty (0, 3) samples.
    """
    if len(mesh.faces) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points), np.asarray(mesh.face_normals[faces])


def largest_component(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The connected piece of greatest area, with its colours; a new mesh. An empty mesh gives an empty one."""
    result = mesh.copy()
    if len(mesh.faces) == 0:
        return result
    label = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    area = np.bincount(label, weights=mesh.area_faces)
    result.update_faces(label == area.argmax())
    result.remove_unreferenced_vertices()
    return result


def mesh_colors(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "n 4"] | None:
    """RGBA of the vertices, those of faces averaged; None for a mesh without such colours."""
    visual = mesh.visual
    return np.asarray(visual.vertex_colors) if isinstance(visual, ColorVisuals) and visual.defined else None


def srgb_to_linear(color: UInt8[np.ndarray, "*n 4"]) -> UInt8[np.ndarray, "*n 4"]:
    """Bytes to bytes: c / 12.92 up to 0.04045, else ((c + 0.055) / 1.055)^2.4; alpha stays. IEC 61966-2-1."""
    c = color[..., :3] / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.concatenate([np.round(linear * 255).astype(np.uint8), color[..., 3:]], -1)


def _glb(mesh: trimesh.Trimesh) -> bytes:
    """With normals, since viewers must shade flat without; and doubly sided, so that an open surface shows its back."""
    visual = TextureVisuals(material=PBRMaterial(metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True))
    colors = mesh_colors(mesh)
    if colors is not None:
        visual.vertex_attributes["color"] = srgb_to_linear(colors)
    shaded = trimesh.Trimesh(mesh.vertices, mesh.faces, visual=visual, process=False)
    return _export(shaded, "glb", include_normals=True, unitize_normals=True)


def _export(mesh: trimesh.Trimesh, file_type: str, **options: Any) -> bytes:
    content = mesh.export(file_type=file_type, **options)
    return content if isinstance(content, bytes) else str(content).encode()
