"""Colours of mesh files (of vertices, faces, materials and pictures) at any point of their faces."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.base import Visuals

from sdfsrn.meshes.obj import picture_options

GRAY = np.array([0.72, 0.74, 0.78])  # of meshes without colours


class FaceMaterials(Visuals):
    """The `visual` of a mesh with own colours per face, sRGB in [0, 1], times those of a picture if there is one.

    Args:
        color: at the corners of the faces, linear in between.
        uv: of the corners, in the picture: (0, 0) is its lower left corner, (1, 1) the upper right one; it repeats beyond.
        picture: index into `pictures` of each face, -1 for none.
        pictures: (h, w, 3) each.
    """

    kind = "paint"
    defined = True

    def __init__(
        self,
        color: Float[np.ndarray, "f 3 3"],
        uv: Float[np.ndarray, "f 3 2"],
        picture: Int[np.ndarray, " f"],
        pictures: list[UInt8[np.ndarray, "_ _ 3"]],
    ) -> None:
        self.color = color
        self.uv = uv
        self.picture = picture
        self.pictures = pictures

    def at(self, face: Int[np.ndarray, " p"], weight: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        """Colours of points on faces, given by the weights of the corners."""
        color = np.einsum("pk,pkc->pc", weight, self.color[face])
        for index in np.unique(self.picture[face]):
            if index >= 0:
                here = self.picture[face] == index
                uv = np.einsum("pk,pkc->pc", weight[here], self.uv[face[here]])
                color[here] *= bilinear(self.pictures[index], uv)
        return color

    def copy(self) -> FaceMaterials:
        """A copy that shares the arrays, which are never written to."""
        return FaceMaterials(self.color, self.uv, self.picture, self.pictures)

    def update_faces(self, mask: np.ndarray) -> None:
        """Keep the faces of a mask or an index, as trimesh asks of a visual."""
        self.color, self.uv, self.picture = self.color[mask], self.uv[mask], self.picture[mask]

    def update_vertices(self, mask: np.ndarray) -> None:
        """Do nothing: no value is stored per vertex."""

    def concatenate(self, other: FaceMaterials | list[FaceMaterials]) -> FaceMaterials:
        """Concatenate the faces, as trimesh asks of a visual when it joins meshes."""
        return stack_materials([self, *(other if isinstance(other, list) else [other])])

    def __hash__(self) -> int:
        return hash((self.color.tobytes(), self.uv.tobytes(), self.picture.tobytes(), len(self.pictures)))


def bilinear(picture: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "p 2"]) -> Float[np.ndarray, "p 3"]:
    """Interpolate a picture between its pixel centres, in [0, 1]; it repeats outside of [0, 1]^2, u to the right and v up.

    trimesh's `uv_to_interpolated_color` puts uv = 1 on the centre of the last pixel, half a pixel inwards, and rounds.
    """
    height, width = picture.shape[:2]
    place = np.stack([1 - uv[:, 1], uv[:, 0]], -1) % 1 * [height, width] - 0.5  # row, column
    first = np.floor(place).astype(np.int64)
    row, column = (place - first).T[..., None]
    (top, left), (bottom, right) = first.T % [[height], [width]], (first.T + 1) % [[height], [width]]
    upper = (1 - column) * picture[top, left] + column * picture[top, right]
    lower = (1 - column) * picture[bottom, left] + column * picture[bottom, right]
    return ((1 - row) * upper + row * lower) / 255


def materials_of(visual: Visuals, faces: Int[np.ndarray, "f 3"], linear: bool = False) -> FaceMaterials:
    """The colours that trimesh read from a file; GRAY if none. `linear`: plain colours are linear, as in glTF."""
    count = len(faces)
    color = np.broadcast_to(GRAY, (count, 3, 3))
    uv, picture = np.zeros((count, 3, 2)), None
    if isinstance(visual, TextureVisuals):
        picture = _picture(visual.material) if np.shape(visual.uv)[1:] == (2,) and faces.max() < len(visual.uv) else None
        if picture is not None:
            _, scale, offset = picture_options(picture_name(visual.material))
            uv = np.nan_to_num(np.asarray(visual.uv, float))[faces] * scale + offset
        plain, corners = _plain(visual.material, picture is not None), visual.vertex_attributes.get("color")
        if plain is not None or corners is not None:
            color = np.ones((count, 3, 3)) if plain is None else np.broadcast_to(_unit(plain), (count, 3, 3))
            color = color if corners is None else color * _unit(corners)[faces]
            color = _srgb(color) if linear else color
    elif isinstance(visual, ColorVisuals) and visual.defined:
        by_face = visual.kind == "face"
        color = np.repeat(_unit(visual.face_colors)[:, None], 3, 1) if by_face else _unit(visual.vertex_colors)[faces]
        color = _srgb(color) if linear else color
    pictures = [] if picture is None else [picture]
    return FaceMaterials(color, uv, np.full(count, len(pictures) - 1), pictures)


def stack_materials(parts: list[FaceMaterials]) -> FaceMaterials:
    """Concatenate the faces; a picture that several have is stored once."""
    pictures: list[np.ndarray] = []
    index: dict[int, int] = {}
    for picture in (picture for part in parts for picture in part.pictures):
        if id(picture) not in index:
            index[id(picture)] = len(pictures)
            pictures.append(picture)
    numbers = [np.array([*(index[id(picture)] for picture in part.pictures), -1])[part.picture] for part in parts]
    return FaceMaterials(
        np.concatenate([part.color for part in parts]),
        np.concatenate([part.uv for part in parts]),
        np.concatenate(numbers),
        pictures,
    )


def picture_name(material: object) -> str:
    """What an OBJ's material says of its picture: options and file; "" of another material."""
    return str(getattr(getattr(material, "image", None), "info", {}).get("file_path", ""))


def _picture(material: object) -> np.ndarray | None:
    """The material's picture; None if it has none, or a broken one."""
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if not isinstance(image, Image.Image):
        return None
    try:
        return np.asarray(image.convert("RGB"))
    except Exception:  # whatever a decoder makes of broken bytes
        return None


def _plain(material: object, pictured: bool) -> np.ndarray | None:
    """The material's colour, bytes; None if the file gives none. Black under a picture is an exporter's default: white."""
    if hasattr(material, "baseColorFactor"):
        factor = material.baseColorFactor
        return np.full(3, 255, np.uint8) if factor is None else np.asarray(factor)[:3]
    if "kd" not in getattr(material, "kwargs", {}):
        return np.full(3, 255, np.uint8) if pictured else None
    diffuse = np.asarray(material.diffuse)[:3]  # type: ignore[attr-defined]
    return np.full(3, 255, np.uint8) if pictured and not diffuse.any() else diffuse


def _unit(color: np.ndarray) -> np.ndarray:
    """RGB in [0, 1] of integers or floats, without alpha."""
    color = np.asarray(color)[..., :3]
    return color / np.iinfo(color.dtype).max if color.dtype.kind in "iu" else color.astype(float).clip(0, 1)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """The inverse of `sdfsrn.meshes.io.srgb_to_linear`. IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
