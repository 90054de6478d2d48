"""The command that turns pictures into coloured meshes."""

from __future__ import annotations

import dataclasses
import logging
import pathlib

from omegaconf import DictConfig

from sdfsrn import pretrained
from sdfsrn.cli.command import check_choices
from sdfsrn.cli.loading import is_pretrained, load_model, load_protocol
from sdfsrn.cli.pictures import find_pictures, output_names, pair_masks, write_turntable
from sdfsrn.functional.isosurface import Grid
from sdfsrn.inference import reconstruct
from sdfsrn.meshes.figures import to_picture
from sdfsrn.meshes.geometry import largest_component
from sdfsrn.meshes.io import SUFFIXES, write_mesh
from sdfsrn.runtime.progress import track
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)


def reconstruct_pictures(config: DictConfig) -> list[pathlib.Path]:
    """Reconstruct every picture that `image` names; the files written, at the pictures' paths below their common folder.

    One unreadable picture among several is reported and the rest are done; then the exit status tells.

    Raises:
        ValueError: a format that cannot be written, no picture found, pictures that differ in the suffix alone, masks that
            don't pair up, or pictures that could not be reconstructed.
    """
    check_choices("mesh_formats", config.mesh_formats, [suffix[1:] for suffix in SUFFIXES])
    check_choices("turntable", config.turntable, ["png", "webp", "gif"])
    pictures = _pictures(config)
    names = output_names([image for image, _ in pictures])
    model = load_model(config)
    grid, output = load_protocol(config.protocol, model).grid, pathlib.Path(config.paths.output)
    changes = {name: config[name] for name in ("image_size", "crop") if config[name] != "trained"}
    model.preprocessing = dataclasses.replace(model.preprocessing, **changes)
    written, failed = [], []
    for (image, mask), name in track(zip(pictures, names, strict=True), "Reconstructing", len(names), "pictures"):
        try:
            written += _reconstruct(config, model, grid, image, mask, output / name)
        except ValueError as error:
            failed.append(str(error))
    log.info("Wrote %d files to %s", len(written), output)
    if failed:
        raise ValueError(f"{len(failed)} of {len(pictures)} pictures could not be reconstructed: {' '.join(failed)}")
    return written


def _pictures(config: DictConfig) -> list[tuple[pathlib.Path, pathlib.Path | None]]:
    """The pictures of `image` with their masks; without it those of the package, if the model is the package's too."""
    if config.image is not None:
        images = find_pictures(config.image, "image")
        return list(zip(images, pair_masks(images, config.mask), strict=True))
    if not is_pretrained(config) or config.mask is not None:
        raise ValueError("Expected image=FILE, FOLDER or GLOB: without it only the package's own model has pictures to show.")
    return [(picture, None) for picture in pretrained.pictures()]


def _reconstruct(
    config: DictConfig, model: ShapeModel, grid: Grid, image: pathlib.Path, mask: pathlib.Path | None, place: pathlib.Path
) -> list[pathlib.Path]:
    """Write the mesh and the turntable of one picture to `place`.<format>; the files. Raises ValueError without a surface."""
    mesh = reconstruct(image, model, mask, grid)
    if len(mesh.faces) == 0:
        raise ValueError(f"No surface was found for {image}.")
    if config.largest_component:
        mesh = largest_component(mesh)
    place.parent.mkdir(parents=True, exist_ok=True)
    written = [place.with_name(f"{place.name}.{suffix}") for suffix in config.mesh_formats]
    for path in written:
        write_mesh(mesh, path)
    seen = to_picture(model.preprocessing(image, mask))
    return written + write_turntable(mesh, seen, place.with_name(f"{place.name}_turntable"), config.turntable)
