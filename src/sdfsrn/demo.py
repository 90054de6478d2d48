"""python -m sdfsrn.demo [ckpt_path=...]: a web page that turns a picture into a mesh; `pip install 'sdfsrn[demo]'`."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import tempfile
import time
import types
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from omegaconf import DictConfig
from PIL import Image
from scipy.ndimage import binary_fill_holes

from sdfsrn import pretrained
from sdfsrn.cli.command import command
from sdfsrn.cli.loading import data_node, is_pretrained, load_model, load_protocol
from sdfsrn.data.cropping import object_box
from sdfsrn.data.images import open_image, read_alpha, read_cutout, read_mask
from sdfsrn.data.source import ImageSample, evenly_spaced
from sdfsrn.functional.isosurface import Grid
from sdfsrn.inference import reconstruct
from sdfsrn.meshes.figures import to_picture
from sdfsrn.meshes.io import write_mesh
from sdfsrn.runtime.configs import instantiate
from sdfsrn.runtime.files import png_bytes, write_atomically
from sdfsrn.system import ShapeModel

if TYPE_CHECKING:
    import gradio

log = logging.getLogger(__name__)

CROP = 1.3  # side around objects, where there is no example
FRONT = (-60, 65, None)  # where the viewer's camera starts, in degrees: objects face -z
WHITE = (1.0, 1.0, 1.0, 1.0)
SHOWN = 192  # pixels that the network's input is enlarged to
READY = "#picture .image-container:not(:has(.toolbar-wrap)) { visibility: hidden }"  # until it accepts dropped files
INTRODUCTION = """# From one picture to a mesh
Drop a picture or choose an example. The model needs to know where the object is: a transparent background says so; otherwise
paint over the object with the brush (or draw its outline, which is filled), or give a mask."""
CUT = ". The object touches the picture's border, where it may go on: the model has seen whole objects."
NO_MASK = (
    "Where is the object? Paint over it, draw its outline, give a mask, or choose a picture with a transparent background."
)


@dataclasses.dataclass(frozen=True)
class Reconstructor:
    """Answers the page's requests with a model's meshes.

    Args:
        model: in evaluation mode.
        grid: where the surface is extracted.
        folder: for the meshes.
    """

    model: ShapeModel
    grid: Grid
    folder: pathlib.Path

    def __call__(
        self, image: Image.Image, mask: Image.Image, resolution: int, crop: float | None
    ) -> tuple[pathlib.Path, UInt8[np.ndarray, "h w 3"], str]:
        """The GLB file, the network's input as a picture, and a line about the mesh.

        `resolution` counts grid intervals per axis.

        Raises:
            ValueError: no surface, or as in `sdfsrn.reconstruct`.
        """
        start = time.perf_counter()
        grid = dataclasses.replace(self.grid, resolution=int(resolution), dense=False)
        mesh = reconstruct(image, self.model, mask, grid, crop=crop)
        if len(mesh.faces) == 0:
            raise ValueError("The model sees no surface in this picture. Does the object fill it as those of the examples do?")
        path = self.folder / uuid.uuid4().hex / "mesh.glb"
        write_mesh(mesh, path)
        cutout = read_cutout(image, mask)
        seen = dataclasses.replace(self.model.preprocessing, crop=crop).prepare(cutout)
        words = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces, {time.perf_counter() - start:.1f} s"
        return path, to_picture(seen), words + CUT * cutout.cut


def object_mask(image: Image.Image, strokes: list[Image.Image], mask: Image.Image | None = None) -> Image.Image:
    """The object's mask: `mask` if given, else the strokes (RGBA) with their inside, else the picture's alpha channel.

    Returns:
        "L", of the picture's size, bright where the object is.

    Raises:
        ValueError: none of the three; a mask that is empty, or of another shape than the picture.
    """
    if mask is not None:
        ratios = [picture.width / picture.height for picture in (mask, image)]
        if not 0.95 < ratios[0] / ratios[1] < 1.05:
            raise ValueError(f"The mask is of another shape than the picture: {mask.size} and {image.size}.")
        values = read_mask(open_image(mask), "the mask").alpha
        mask = Image.fromarray(np.rint(255 * values).astype(np.uint8)).resize(image.size)  # the editor shrinks large pictures
        if np.asarray(mask).max() < 128:
            raise ValueError("The mask is empty: it should be bright where the object is.")
        return mask
    painted = np.zeros(image.size[::-1], bool)
    for stroke in strokes:
        painted |= np.asarray(stroke.convert("RGBA").resize(image.size).getchannel("A")) > 0
    if painted.any():
        return Image.fromarray(binary_fill_holes(painted).astype(np.uint8) * 255)
    alpha = read_alpha(image).alpha
    if alpha.min() >= 0.5:
        raise ValueError(NO_MASK)
    if alpha.max() < 0.5:
        raise ValueError("The picture is transparent everywhere: there is no object in it.")
    return Image.fromarray(np.rint(255 * alpha).astype(np.uint8))


def example_pictures(trained: dict[str, Any], folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Write pictures of a checkpoint's test split, evenly spaced in it, as PNG with alpha; their paths.

    The list is empty, with a line in the log, where that data is not on this computer.
    """
    if count < 1 or "data" not in trained:
        return []
    try:
        source = instantiate(trained["data"]).source("test")
        chosen = evenly_spaced(len(source), count)
        return [_write_example(source.picture(i), folder / f"example_{i:04d}.png") for i in chosen]
    except (ValueError, OSError) as error:
        log.info("No example pictures: %s", error)
        return []


def typical_crop(examples: list[pathlib.Path]) -> float:
    """The median over pictures of their longer side over that of the object: how much room training left around it."""
    masks = [read_cutout(path).alpha for path in examples]
    room = [max(alpha.shape) / box.longer for alpha in masks if (box := object_box(alpha)) is not None]
    return round(float(np.median(room)), 2) if room else CROP


def page(reconstructor: Reconstructor, examples: list[pathlib.Path]) -> gradio.Blocks:
    """The web page, ready to launch; nothing on it comes from the network.

    Raises:
        ValueError: Gradio is not installed.
    """
    gr = _gradio()

    def answer(edited: dict[str, Any] | None, mask: Image.Image | None, resolution: int, crops: bool, crop: float) -> tuple:
        try:
            if edited is None or edited["background"] is None:
                raise ValueError("First drop a picture, or choose an example.")
            image = edited["background"]
            found = object_mask(image, edited["layers"], mask)
            path, seen, words = reconstructor(image.convert("RGB"), found, resolution, crop if crops else None)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return str(path), str(path), Image.fromarray(seen).resize((SHOWN, SHOWN), Image.Resampling.NEAREST), words

    with gr.Blocks(title="SDF-SRN", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                inputs = _inputs(gr, reconstructor.grid.resolution, reconstructor.model.preprocessing.crop, examples)
                button = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
            with gr.Column():
                model = gr.Model3D(
                    label="Mesh: drag to turn", height=420, camera_position=FRONT, clear_color=WHITE, elem_id="mesh"
                )
                words = gr.Markdown(elem_id="words")
                download = gr.DownloadButton("Download GLB", elem_id="download")
                seen = gr.Image(
                    label="What the network sees", height=SHOWN + 40, width=SHOWN + 40, buttons=[], interactive=False
                )
        button.click(answer, inputs, [model, download, seen, words], api_name="reconstruct")
    return blocks


def demo(config: DictConfig) -> None:
    """Serve the page as configured, until interrupted.

    Raises:
        ValueError: Gradio is not installed; no checkpoint.
    """
    _gradio()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks its own server whether it is there
    model = load_model(config)
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))  # threads that wait for a core which the browser has take ages
    with tempfile.TemporaryDirectory(prefix="sdfsrn-demo-") as name:
        folder = pathlib.Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = name  # what visitors upload goes with the rest
        if is_pretrained(config):
            examples = pretrained.pictures()[: config.examples]
        else:
            known = {"data": data} if (data := data_node(config, model.config)) is not None else {}
            examples = example_pictures(known, folder / "examples", config.examples)
        reconstructor = Reconstructor(model, load_protocol(config.protocol, model).grid, folder)
        size = model.preprocessing.image_size
        with torch.no_grad():  # the first call of a network takes longer
            model(torch.zeros(1, 3, size, size, device=model.device))
        blocks = page(reconstructor, examples)
        allowed = [name, str(pretrained.CHECKPOINT.parent)]
        options = {"allowed_paths": allowed, "share": config.share, "quiet": True, "footer_links": [], "ssr_mode": False}
        address = {"server_name": config.host, "server_port": config.port}
        _, url, _ = blocks.launch(**address, css=READY, prevent_thread_lock=True, **options)
        log.info("The page is at %s (stop it with Ctrl-C)", blocks.share_url or url)
        blocks.block_thread()


def _inputs(gr: types.ModuleType, resolution: int, crop: float | None, examples: list[pathlib.Path]) -> list[Any]:
    """The left column: picture with strokes, mask, resolution, whether to crop, and to what; `crop` as in training."""
    picture = gr.ImageEditor(
        label="Picture",
        type="pil",
        image_mode="RGBA",
        format="png",
        sources=("upload", "clipboard"),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=["#ff6a00b0"], color_mode="fixed", default_size=12),
        height=420,
        buttons=[],
        elem_id="picture",
    )
    if examples:
        gr.Examples([str(path) for path in examples], picture, label="Examples: pictures the model has never seen")
    with gr.Accordion("Mask, resolution, crop", open=False, elem_id="advanced"):
        mask = gr.Image(
            label="Mask, bright where the object is", type="pil", image_mode=None, sources=["upload"], elem_id="mask"
        )
        grid = gr.Slider(16, 256, value=resolution, step=8, label="Resolution: grid intervals along an axis")
        crops = gr.Checkbox(crop is not None, label="Crop to the object")
        side = crop or typical_crop(examples)
        room = gr.Slider(1, 3, value=side, step=0.01, label="Side of the crop over the object's longer side")
    return [picture, mask, grid, crops, room]


def _gradio() -> types.ModuleType:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ValueError("The demo needs Gradio: pip install 'sdfsrn[demo]'") from error
    return gradio


def _write_example(picture: ImageSample, path: pathlib.Path) -> pathlib.Path:
    alpha = np.round(picture.alpha * 255).astype(np.uint8)
    write_atomically(path, png_bytes(np.dstack([picture.image, alpha])))
    return path


main = command("demo", changes="data")(demo)

if __name__ == "__main__":
    main()
