"""OBJ files and their materials as exporters write them, made plain for trimesh's parser."""

from __future__ import annotations

import re
from pathlib import Path

import trimesh
from trimesh.util import decode_text

MATERIALS = "materials of the file"  # names all of an OBJ's material files, joined
NONE = "no material"  # of faces whose material is not there
LIBRARY, MATERIAL = (re.compile(rf"^[ \t]*{key}[ \t]+([^\r\n]*)", re.M | re.I) for key in ("mtllib", "usemtl"))
DEFINITION = re.compile(r"^[ \t]*newmtl[ \t]+([^\r\n]*)", re.M | re.I)
PICTURE = re.compile(r"^[ \t]*map_Kd[ \t]+([^\r\n]*)", re.M | re.I)
COLORED = re.compile(r"^v([ \t]+\S+){6}", re.M)  # a vertex with its colour
FACE = re.compile(r"^[ \t]*f[ \t]", re.M)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class Neighbours(trimesh.resolvers.FilePathResolver):
    """Resolver of file names in a mesh file: inside its folder or the parent folder (ShapeNet's ../images) only.

    Names may be in another case than the files, in quotes, or paths of another computer to a file beside the mesh. Options of a
    picture are left aside.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.materials = b""  # what MATERIALS stands for

    def get(self, name: str) -> bytes:
        """The content of a file; OSError if it is not there, or lies outside."""
        if name == MATERIALS:
            return self.materials
        path = self._path(name)
        if path is None:
            raise FileNotFoundError(f"{name} lies outside the folders of {self.file_path}, or nowhere")
        return path.read_bytes()

    def finds(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        name = picture_options(name)[0].strip().strip("\"'").replace("\\", "/")
        folder = Path(self.parent)
        path = _find(folder, name) or _find(folder, name.rsplit("/", 1)[-1])
        return path if path is not None and path.resolve().is_relative_to(folder.resolve().parent) else None


def plain_obj(content: bytes, resolver: Neighbours) -> tuple[bytes, list[str]]:
    """An OBJ whose every face has a defined material; and what is not there: materials, their files and pictures.

    All its material files become one, MATERIALS of the resolver. Names of materials are compared without case where that is
    needed. Faces before any `usemtl` get the only material there is; others, without any, NONE, which has no colour, unless
    vertices have.
    """
    text = decode_text(content)
    missing, parts = [], []
    for name in (name for line in LIBRARY.findall(text) for name in _names(line, resolver)):
        try:
            parts.append(decode_text(resolver.get(name)))
        except OSError:
            missing.append(name)
    materials = "\n".join(parts)
    defined = list(dict.fromkeys(map(str.strip, DEFINITION.findall(materials))))
    by_case = {name.lower(): name for name in defined}

    def use(match: re.Match[str]) -> str:
        name = " ".join(match[1].split())
        known = name if name in defined else by_case.get(name.lower(), NONE)
        if known == NONE:
            missing.append(name)
        return match[0] if known == NONE and COLORED.search(text) else f"usemtl {known}"

    missing += [name for name in PICTURE.findall(materials) if not resolver.finds(name)]
    plain = LIBRARY.sub("", MATERIAL.sub(use, text))
    first, used = FACE.search(plain), MATERIAL.search(plain)
    if first is not None and (used is None or first.start() < used.start()) and (defined or not COLORED.search(plain)):
        only = defined[0] if len(defined) == 1 else NONE
        missing += ["usemtl before the first faces"] * (len(defined) > 1)
        plain = f"{plain[: first.start()]}usemtl {only}\n{plain[first.start() :]}"
    resolver.materials = f"{materials}\nnewmtl {NONE}\n".encode()
    return f"mtllib {MATERIALS}\n{plain}".encode(), list(dict.fromkeys(missing))


def picture_options(words: str) -> tuple[str, list[float], list[float]]:
    """The file in a line such as `-s 2 2 1 -o 0.5 0 0 wood.png` of a material; scale and offset (u, v) of its coordinates.

    >>> picture_options("-clamp on -s 2 3 1 -mm 0 1 my wood.png")
    ('my wood.png', [2.0, 3.0], [0.0, 0.0])
    """
    scale, offset = [1.0, 1.0], [0.0, 0.0]
    rest = words.strip()
    while match := re.match(r"-(\w+)\s+", rest):
        rest = rest[match.end() :]
        most = 3 if match[1] in ("o", "s", "t") else 2 if match[1] == "mm" else 1
        values: list[str] = []
        while len(values) < most and " " in rest and (most == 1 or NUMBER.match(rest.split()[0])):
            value, rest = rest.split(maxsplit=1)
            values.append(value)
        numbers = [float(value) for value in values[:2] if NUMBER.match(value)]
        if match[1] in ("s", "o"):
            target = scale if match[1] == "s" else offset
            target[: len(numbers)] = numbers
    return rest, scale, offset


def _names(line: str, resolver: Neighbours) -> list[str]:
    """The files of a `mtllib` line: one whose name may hold spaces, or several."""
    whole = line.strip()
    several = re.findall(r"\S+?\.mtl(?=\s|$)", whole, re.I)
    return several if len(several) > 1 and _find(Path(resolver.parent), whole) is None else [whole]


def _find(folder: Path, name: str) -> Path | None:
    """The file of that name below or beside a folder, in another case if there is none in this one."""
    path = folder
    for part in Path(name).parts:
        here = path / part
        if part != ".." and not here.exists():
            if not path.is_dir():
                return None
            same = sorted(other for other in path.iterdir() if other.name.lower() == part.lower())
            if not same:
                return None
            here = same[0]
        path = here
    return path if path.is_file() else None
