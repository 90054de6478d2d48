"""The command that turns pictures into coloured meshes."""

from __future__ import annotations

import dataclasses
import logging
import pathlib

from omegaconf import DictConfig
from tqdm import tqdm

from sdfsrn.cli.command import check_choices
from sdfsrn.cli.loading import load_model, load_protocol
from sdfsrn.cli.pictures import find_pictures, pair_masks, write_turntable
from sdfsrn.inference import reconstruct
from sdfsrn.meshes.geometry import largest_component
from sdfsrn.meshes.io import SUFFIXES, write_mesh

log = logging.getLogger(__name__)


def reconstruct_pictures(config: DictConfig) -> list[pathlib.Path]:
    """Reconstruct every picture that `image` names; the folders and files written.

    One unreadable picture among several is reported and the rest are done; then the exit status tells.

    Raises:
        ValueError: a format that cannot be written, no picture found, masks that don't pair up, or pictures that could not
            be reconstructed.
    """
    check_choices("mesh_formats", config.mesh_formats, [suffix[1:] for suffix in SUFFIXES])
    check_choices("turntable", config.turntable, ["png", "webp", "gif"])
    images = find_pictures(config.image, "image")
    masks = pair_masks(images, config.mask)
    model = load_model(config)
    grid, output = load_protocol(config.protocol, model).grid, pathlib.Path(config.paths.output)
    changes = {name: config[name] for name in ("image_size", "crop") if config[name] != "trained"}
    model.preprocessing = dataclasses.replace(model.preprocessing, **changes)
    output.mkdir(parents=True, exist_ok=True)
    written, failed = [], []
    for image, mask in tqdm(list(zip(images, masks, strict=True)), "Reconstructing", unit="image"):
        try:
            mesh = reconstruct(image, model, mask, grid)
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
