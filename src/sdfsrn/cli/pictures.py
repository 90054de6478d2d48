"""Pictures and masks on the command line, and turntables of meshes."""

from __future__ import annotations

import glob
import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import trimesh
from jaxtyping import UInt8
from PIL import Image

from sdfsrn.data.images import describe_skipped, is_picture
from sdfsrn.meshes.figures import hstack, write_animation
from sdfsrn.meshes.rendering import turntable

log = logging.getLogger(__name__)

SIDES, FRAMES = 8, 24  # of a turntable: on the strip, in the animation


def write_turntable(
    mesh: trimesh.Trimesh, picture: UInt8[np.ndarray, "h w 3"], path: pathlib.Path, formats: Sequence[str]
) -> list[pathlib.Path]:
    """Write views from all around as `path`.<format>: webp and gif are loops of FRAMES, png is a strip of SIDES views.

    The strip begins with `picture`, the network's input.
    """
    written = [path.with_name(f"{path.name}.{suffix}") for suffix in formats]
    frames = turntable(mesh, FRAMES if set(formats) - {"png"} else SIDES) if formats else []
    for file in written:
        if file.suffix == ".png":
            enlarged = Image.fromarray(picture).resize(frames[0].shape[:2], Image.Resampling.LANCZOS)
            hstack([np.asarray(enlarged), *frames[:: len(frames) // SIDES]]).save(file)
        else:
            write_animation(frames, file)
    return written


def find_pictures(patterns: str | Sequence[str], key: str) -> list[pathlib.Path]:
    """The file, or the sorted pictures of a folder or a glob; of several such, all of them, each once;
    other files there are counted in a warning.

    Raises:
        ValueError: no picture at all.
    """
    found = [path for pattern in ([patterns] if isinstance(patterns, str) else patterns) for path in _find(str(pattern), key)]
    return list(dict.fromkeys(found))


def _find(pattern: str, key: str) -> list[pathlib.Path]:
    path = pathlib.Path(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.iterdir())
    else:  # brackets are a glob's, or, where it finds nothing, those of a name
        globs = (pattern, pattern.replace("[", "[[]"))
        matches = (glob.glob(each, recursive=True) for each in globs)  # noqa: PTH207  # that of pathlib takes no absolute ones
        found = sorted(map(pathlib.Path, next(filter(None, matches), [])))
    pictures = [file for file in found if is_picture(file)]
    skipped = describe_skipped(file for file in found if file.is_file())
    if not pictures:
        raise ValueError(f"Expected pictures at {key}={pattern}, found {f'only {skipped}' if skipped else 'none'}.")
    if skipped:
        log.warning("Skipped files at %s=%s that are no pictures: %s.", key, pattern, skipped)
    return pictures


def output_names(images: Sequence[pathlib.Path]) -> list[str]:
    """Where each picture's results go: its path below the folder that all have in common, without the suffix.

    Raises:
        ValueError: two pictures that differ in the suffix alone.
    """
    absolute = [image.absolute() for image in images]
    common = os.path.commonpath([image.parent for image in absolute]) if absolute else ""
    names = [image.relative_to(common).with_suffix("").as_posix() for image in absolute]
    _check_apart(names, images, "a name")
    return names


def pair_masks(images: Sequence[pathlib.Path], patterns: str | Sequence[str] | None) -> list[pathlib.Path | None]:
    """The mask of every image: the only one for an only image, else the one of the same name whose folders fit best.

    A mask fits if the image lies in all the folders that tell it from other masks, or the other way round; of several, the one
    with most folders in common.

    Raises:
        ValueError: an image without a mask, or with several that fit alike; two images with one mask.
    """
    if patterns is None:
        return [None] * len(images)
    masks = find_pictures(patterns, "mask")
    if len(images) == len(masks) == 1:
        return list(masks)
    named: dict[str, list[tuple[pathlib.Path, set[str]]]] = {}
    for mask, telling in zip(masks, _telling_folders(masks), strict=True):
        named.setdefault(mask.stem, []).append((mask, telling))
    told = zip(images, _telling_folders(images), strict=True)
    pairs = [_mask_of(image, telling, named.get(image.stem, [])) for image, telling in told]
    _check_apart(list(map(str, pairs)), images, "a mask")
    return list(pairs)


def _mask_of(image: pathlib.Path, telling: set[str], masks: Sequence[tuple[pathlib.Path, set[str]]]) -> pathlib.Path:
    """The mask of an image among those of its name; each is told from its like by some folders."""
    folders, scores = image.absolute().parts[:-1], {}
    for mask, mask_telling in masks:
        others = mask.absolute().parts[:-1]
        if mask_telling <= set(folders) or telling <= set(others):
            equal_ends = [a == b for a, b in zip(reversed(folders), reversed(others), strict=False)]
            scores[mask] = (len(set(folders) & set(others)), [*equal_ends, False].index(False))
    best = [mask for mask, score in scores.items() if score == max(scores.values())]
    if len(best) != 1:
        found = f"found {' and '.join(map(str, best[:2]))}" if best else "found none"
        raise ValueError(f"Expected one mask named {image.stem}.* for {image}, in a folder of the same name, {found}.")
    return best[0]


def _telling_folders(paths: Sequence[pathlib.Path]) -> list[set[str]]:
    """The names of each path's folders that not all of the paths have."""
    folders = [set(path.absolute().parts[:-1]) for path in paths]
    shared = set.intersection(*folders)
    return [each - shared for each in folders]


def _check_apart(names: Sequence[str], images: Sequence[pathlib.Path], what: str) -> None:
    """Raise ValueError for two images with one name of their mask or results."""
    first: dict[str, pathlib.Path] = {}
    for name, image in zip(names, images, strict=True):
        if first.setdefault(name, image) is not image:
            raise ValueError(f"Expected {what} of its own for every picture, got {name} for both {first[name]} and {image}.")
