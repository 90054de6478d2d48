"""python -m sdfsrn.reconstruct ckpt_path=... image=photo.png [mask=...]: pictures to coloured meshes."""

from __future__ import annotations

import glob
import logging
import pathlib
import sys
import types
from collections.abc import Sequence
from typing import Any

import trimesh
from omegaconf import DictConfig
from tqdm import tqdm

from sdfsrn.cli import command, load_model, load_protocol, pick_device
from sdfsrn.files import PICTURE_SUFFIXES
from sdfsrn.inference import reconstruct as reconstruct_mesh
from sdfsrn.meshes import SUFFIXES, largest_component, write_mesh
from sdfsrn.pictures import strip, write_loop
from sdfsrn.rendering import turntable

log = logging.getLogger(__name__)
SIDES, FRAMES = 8, 24  # of a turntable: on the strip, in the animation


def reconstruct(config: DictConfig) -> list[pathlib.Path]:
    """Reconstruct every picture that `image` names; the folders and files written.

    One unreadable picture among several is reported and the rest are done; then the exit status tells.

    Raises:
        ValueError: a format that cannot be written, no picture found, masks that don't pair up, or pictures that could not
            be reconstructed.
    """
    check_formats("mesh_formats", config.mesh_formats, [suffix[1:] for suffix in SUFFIXES])
    check_formats("turntable", config.turntable, ["png", "webp", "gif"])
    images = find_pictures(config.image, "image")
    masks = pair_masks(images, config.mask)
    model, trained = load_model(config)
    model = model.to(pick_device(config.accelerator))
    protocol, output = load_protocol(config.protocol, trained), pathlib.Path(config.paths.output)
    output.mkdir(parents=True, exist_ok=True)
    written, failed = [], []
    for image, mask in tqdm(list(zip(images, masks, strict=True)), "Reconstructing", unit="image"):
        try:
            mesh = reconstruct_mesh(image, model, mask, protocol, config.image_size, config.margin)
        except ValueError as error:
            failed.append(str(error))
            continue
        if len(mesh.faces) == 0:
            failed.append(f"No surface was found for {image}.")
            continue
        if config.largest_component:
            mesh = largest_component(mesh)
        for suffix in config.mesh_formats:
            written.append(output / f"{image.stem}.{suffix}")
            write_mesh(mesh, written[-1])
        written += write_turntable(mesh, output / f"{image.stem}_turntable", config.turntable)
    log.info("Wrote %d files to %s", len(written), output)
    if failed:
        raise ValueError(f"{len(failed)} of {len(images)} pictures could not be reconstructed: {' '.join(failed)}")
    return written


def write_turntable(mesh: trimesh.Trimesh, path: pathlib.Path, formats: Sequence[str]) -> list[pathlib.Path]:
    """The mesh from all around, as `path`.<format>: png is a strip of SIDES pictures, webp and gif are loops of FRAMES."""
    written = [path.with_name(f"{path.name}.{suffix}") for suffix in formats]
    frames = turntable(mesh, FRAMES if set(formats) - {"png"} else SIDES) if formats else []
    for file in written:
        if file.suffix == ".png":
            strip(frames[:: len(frames) // SIDES]).save(file)
        else:
            write_loop(frames, file)
    return written


def check_formats(key: str, formats: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError, naming the config key, for a format that is not known."""
    unknown = sorted(set(formats) - set(known))
    if unknown:
        raise ValueError(f"Expected {key} of {', '.join(known)}, got {', '.join(unknown)}.")


def find_pictures(pattern: str, key: str) -> list[pathlib.Path]:
    """The file, the folder's pictures, or what a glob matches, sorted.

    Raises:
        ValueError: nothing there.
    """
    path = pathlib.Path(pattern)
    if path.is_file():
        return [path]
    found = sorted(path.iterdir()) if path.is_dir() else sorted(map(pathlib.Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    pictures = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise ValueError(f"Expected pictures at {key}={pattern}, found none.")
    return pictures


def pair_masks(images: list[pathlib.Path], pattern: str | None) -> list[pathlib.Path | None]:
    """The mask of every image: the only one for an only image, else the one of the same name.

    Raises:
        ValueError: an image without a mask, named.
    """
    if pattern is None:
        return [None] * len(images)
    masks = find_pictures(pattern, "mask")
    if len(images) == len(masks) == 1:
        return list(masks)
    by_stem = {mask.stem: mask for mask in masks}
    missing = [image for image in images if image.stem not in by_stem]
    if missing:
        raise ValueError(f"Expected a mask named {missing[0].stem}.* at mask={pattern} for {missing[0]}, found none.")
    return [by_stem[image.stem] for image in images]


class _Callable(types.ModuleType):
    """Importing this module binds it over the function `sdfsrn.reconstruct`; calling it is calling that function."""

    def __call__(self, *args: Any, **options: Any) -> trimesh.Trimesh:
        return reconstruct_mesh(*args, **options)


sys.modules[__name__].__class__ = _Callable

main = command("reconstruct")(reconstruct)

if __name__ == "__main__":
    main()
