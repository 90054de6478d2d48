"""The page, alone and in a real browser: a picture goes in, a closed mesh comes out, and nothing is asked of the network."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

import sdfsrn
from sdfsrn.callbacks.pretraining import SpherePretraining
from sdfsrn.data import Preprocessing
from sdfsrn.demo import Reconstructor, demo, example_pictures, object_mask, typical_crop
from sdfsrn.inference import reconstruct
from sdfsrn.runtime.configs import config_folder, instantiate

SETTINGS = [
    "data.num_objects=4",
    "data.num_eval_objects=3",
    "data.shapes.views_per_object=2",
    "model.hypernetwork.hidden_width=16",
    "model.hypernetwork.field.width=16",
    "model.encoder.latent_dim=16",
    "protocol.resolution=24",
]

TOO_EARLY = """  // Frames in which the editor is seen while it would lose a picture.
tooEarly = 0;
const watch = () => {
  const editor = document.querySelector("#picture .image-container");
  if (editor?.querySelector(".toolbar-wrap")) return;
  if (editor && getComputedStyle(editor).visibility === "visible") tooEarly += 1;
  requestAnimationFrame(watch);
};
watch();
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model that sees a sphere in every picture, saved as training does."""
    folder = tmp_path_factory.mktemp("demo")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*SETTINGS, f"paths.output={folder}", f"paths.cache={folder}/cache"])
    model = instantiate(config.model)
    SpherePretraining(iterations=150, num_points=512, learning_rate=1e-3).fit(model.hypernetwork)
    content = {"state_dict": model.state_dict(), "config": OmegaConf.to_container(config, resolve=True)}
    torch.save(content, folder / "sphere.ckpt")
    return folder / "sphere.ckpt"


@pytest.fixture
def picture() -> Image.Image:
    """80 x 60, noise, transparent but for a disc."""
    color = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    y, x = np.mgrid[:60, :80]
    alpha = (np.hypot(x - 40, y - 30) < 20) * np.uint8(255)
    return Image.fromarray(np.dstack([color, alpha]))


def outline(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    layer = Image.new("RGBA", size)
    ImageDraw.Draw(layer).rectangle(box, outline=(255, 100, 0, 180), width=2)
    return layer


def test_a_mask_goes_before_strokes_and_strokes_before_transparency(picture: Image.Image) -> None:
    mask = Image.new("L", picture.size)
    mask.paste(255, (5, 5, 15, 15))
    stroke = outline(picture.size, (50, 10, 69, 29))
    assert object_mask(picture, [stroke], mask).getbbox() == (5, 5, 15, 15)
    assert object_mask(picture, [stroke]).getbbox() == (50, 10, 70, 30)
    assert object_mask(picture, [Image.new("RGBA", picture.size)]) == picture.getchannel("A")


def test_outlines_are_filled_and_strokes_add_up(picture: Image.Image) -> None:
    strokes = [outline(picture.size, (10, 10, 29, 29)), outline(picture.size, (50, 10, 69, 29))]
    found = np.asarray(object_mask(picture.convert("RGB"), strokes)) > 0
    expected = np.zeros((60, 80), bool)
    expected[10:30, 10:30] = expected[10:30, 50:70] = True
    np.testing.assert_array_equal(found, expected)


def test_a_mask_follows_a_picture_that_the_editor_shrank(picture: Image.Image) -> None:
    mask = Image.new("L", (160, 120))
    mask.paste(255, (40, 40, 80, 80))
    assert object_mask(picture, [], mask).getbbox() == pytest.approx((20, 20, 40, 40), abs=1)


@pytest.mark.parametrize(
    ("image", "mask", "needle"),
    [
        (Image.new("RGB", (20, 10)), None, "Where is the object"),
        (Image.new("RGBA", (20, 10), (9, 9, 9, 255)), None, "Where is the object"),
        (Image.new("RGBA", (20, 10)), None, "transparent everywhere"),
        (Image.new("RGB", (20, 10)), Image.new("L", (20, 10)), "empty"),
        (Image.new("RGB", (20, 10)), Image.new("L", (10, 20), 255), "another shape"),
    ],
)
def test_what_says_nothing_about_the_object_is_told(image: Image.Image, mask: Image.Image | None, needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        object_mask(image, [Image.new("RGBA", image.size)], mask)


def test_the_answer_is_that_of_reconstruct(checkpoint: pathlib.Path, picture: Image.Image, tmp_path: pathlib.Path) -> None:
    model = sdfsrn.load(checkpoint)
    reconstructor = Reconstructor(model, model.protocol.grid, tmp_path)
    path, seen, words = reconstructor(picture.convert("RGB"), picture.getchannel("A"), 20, 1.5)
    expected = reconstruct(picture, model, grid=sdfsrn.Grid(20), crop=1.5)
    written = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(written.vertices, expected.vertices, atol=1e-6)
    assert f"{len(expected.faces):,} faces" in words
    ((top, _), (bottom, _)) = np.argwhere((seen < 250).any(-1))[[0, -1]]
    assert bottom - top + 1 == pytest.approx(64 / 1.5, abs=2)


def test_no_surface_is_told(checkpoint: pathlib.Path, picture: Image.Image, tmp_path: pathlib.Path) -> None:
    model = sdfsrn.load(checkpoint)
    with torch.no_grad():
        model.hypernetwork.branches[-2][-1].bias += 10  # f is large everywhere
        model.hypernetwork.branches[-2][-1].bias[1:] = 0
    with pytest.raises(ValueError, match="no surface"):
        Reconstructor(model, model.protocol.grid, tmp_path)(picture, picture.getchannel("A"), 16, None)
    assert not list(tmp_path.iterdir())


def test_examples_are_what_the_model_is_tested_on(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = sdfsrn.load(checkpoint).config
    dataset = instantiate(OmegaConf.create(config["data"])).dataset("test")
    examples = example_pictures(config, tmp_path, 2)
    assert [path.name for path in examples] == ["example_0000.png", "example_0002.png"]
    for path, index in zip(examples, (0, 2), strict=True):
        torch.testing.assert_close(Preprocessing()(path), dataset.views([index]).image[0], atol=1e-6, rtol=0)
    alpha = dataset.source.picture(0).alpha >= 0.5
    extent = max(np.ptp(np.nonzero(alpha)[axis]) + 1 for axis in (0, 1))
    assert typical_crop(examples[:1]) == pytest.approx(64 / extent, abs=0.01)


def test_examples_are_optional(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> None:
    missing: dict[str, Any] = {"_target_": "sdfsrn.data.ShapeNetDataModule", "root": "/nowhere", "category": "chair"}
    assert example_pictures({"data": missing}, tmp_path, 4) == []
    assert example_pictures({}, tmp_path, 4) == []
    assert typical_crop([]) > 1


@pytest.mark.slow
def test_without_gradio_one_line_says_what_to_install(tmp_path: pathlib.Path) -> None:
    code = "import sys; sys.modules['gradio'] = None; from sdfsrn.demo import main; main()"
    command = [sys.executable, "-c", code, "ckpt_path=any.ckpt", "hydra.run.dir=run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.strip() == "error: The demo needs Gradio: pip install 'sdfsrn[demo]'"


def test_half_of_the_cores_are_left_to_the_browser(checkpoint: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    found = []

    def page(*_: Any) -> None:
        found.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr("sdfsrn.demo.page", page)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("demo", [f"ckpt_path={checkpoint}", "examples=0", "accelerator=cpu"])
    threads = torch.get_num_threads()
    try:
        for count in (4, 1):
            torch.set_num_threads(count)
            with pytest.raises(KeyboardInterrupt):
                demo(config)
    finally:
        torch.set_num_threads(threads)
    assert found == [2, 1]


def test_without_a_checkpoint_the_page_shows_the_package_s_own_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    found = []

    def page(reconstructor: Reconstructor, examples: list[pathlib.Path]) -> None:
        found.append((reconstructor.model.config["facts"], examples))
        raise KeyboardInterrupt

    monkeypatch.setattr("sdfsrn.demo.page", page)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
    threads = torch.get_num_threads()
    try:
        for count in (6, 1, 0):
            with initialize_config_dir(str(config_folder()), version_base="1.3"):
                config = compose("demo", [f"examples={count}", "accelerator=cpu"])
            with pytest.raises(KeyboardInterrupt):
                demo(config)
    finally:
        torch.set_num_threads(threads)
    own = sdfsrn.load().config["facts"], sdfsrn.pretrained.pictures()
    assert found == [(own[0], own[1][:count]) for count in (6, 1, 0)]


@contextlib.contextmanager
def trap() -> Iterator[tuple[int, list]]:
    """A port that nobody should call, and who did."""
    calls: list = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    calls.append(connection.recv(200))
                    connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], calls


@pytest.fixture
def served(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[str]:
    """The address of `python -m sdfsrn.demo`, which may not speak to anything but this computer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with trap() as (trapped, calls):
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{trapped}")
        overrides = [f"ckpt_path={checkpoint}", f"port={port}", "examples=2", "accelerator=cpu", "hydra.run.dir=run"]
        process = subprocess.Popen(
            [sys.executable, "-m", "sdfsrn.demo", *overrides],
            cwd=tmp_path,
            env={**os.environ, **proxies, "NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        for line in process.stdout:
            said.append(line)
            if "The page is at" in line:
                break
        try:
            assert process.poll() is None, "".join(said)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.communicate(timeout=30)
        assert calls == [], "the server asked for something from the network"


def sync_api() -> Any:
    return pytest.importorskip(
        "playwright.sync_api", reason="NO WEB PAGE CHECKED: PLAYWRIGHT IS MISSING, PIP INSTALL 'SDFSRN[TEST]'"
    )


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    with sync_api().sync_playwright() as playwright:
        try:
            arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            chromium = playwright.chromium.launch(executable_path=executable, args=arguments)
        except sync_api().Error:
            pytest.skip("NO WEB PAGE CHECKED: CHROMIUM IS MISSING, PLAYWRIGHT INSTALL CHROMIUM")
        yield chromium
        chromium.close()


def complaint(message: Any) -> bool:
    """An error of the page's; the viewer's, that headless Chromium has no WebGPU before it takes WebGL, is not."""
    return message.type == "error" and "WebGPU" not in message.text


def hand_in(page: Any, path: pathlib.Path) -> None:
    """Choose a picture as soon as the editor invites to, and wait until it is there."""
    invitation = page.locator("#picture .empty")
    invitation.wait_for()
    page.locator("#picture input[type=file]").first.set_input_files(path)
    invitation.wait_for(state="detached")


def ask(page: Any, answer: Any) -> None:
    """Press the button and wait for the answer."""
    page.locator("#reconstruct").click()
    answer.wait_for()


def wait_until_drawn(page: Any, path: pathlib.Path) -> None:
    """Until the viewer shows something, in so many pixels that it is no speck and not all; its picture is left in `path`."""
    for _ in range(100):
        page.locator("#mesh canvas").screenshot(path=path)
        drawn = np.asarray(Image.open(path).convert("RGB")).min(-1) < 240
        if 0.05 < drawn.mean() < 0.9:
            return
        page.wait_for_timeout(300)
    raise AssertionError(f"the viewer draws nothing, or everywhere: {path}")


def outline_by_mouse(page: Any) -> None:
    """Draw a closed line over the middle of the picture."""
    box = page.locator("#picture canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y - 60)
    page.mouse.down()
    for dx, dy in ((60, -60), (60, 60), (-60, 60), (-60, -60)):
        page.mouse.move(x + dx, y + dy, steps=12)
    page.mouse.up()
    page.wait_for_timeout(500)


@pytest.mark.slow
def test_the_page_in_a_browser(
    browser: Any, request: pytest.FixtureRequest, checkpoint: pathlib.Path, picture: Image.Image, tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("gradio", reason="NO WEB PAGE CHECKED: GRADIO IS MISSING, PIP INSTALL 'SDFSRN[TEST]'")
    address = request.getfixturevalue("served")
    picture.save(tmp_path / "alpha.png")
    picture.convert("RGB").save(tmp_path / "opaque.png")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    errors, elsewhere = [], []
    page.on("console", lambda message: errors.append(message.text) if complaint(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    local = (address, "data:", "blob:")
    page.on("request", lambda call: None if call.url.startswith(local) else elsewhere.append(call.url))
    page.set_default_timeout(90_000)
    page.add_init_script(TOO_EARLY)
    page.goto(address)
    hand_in(page, tmp_path / "alpha.png")
    assert page.evaluate("tooEarly") == 0
    found = page.get_by_text(re.compile(r"\d vertices"))
    ask(page, found)
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "mesh.glb")
    mesh = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False)
    expected = sdfsrn.reconstruct(tmp_path / "alpha.png", checkpoint)
    assert mesh.is_watertight
    assert mesh.volume > 0
    np.testing.assert_allclose(mesh.vertices, expected.vertices, atol=1e-4)
    wait_until_drawn(page, tmp_path / "view.png")

    page.reload()
    hand_in(page, tmp_path / "opaque.png")
    ask(page, page.get_by_text("Where is the object?"))
    assert found.count() == 0
    outline_by_mouse(page)
    ask(page, found)
    page.screenshot(path=tmp_path / "page.png")
    assert errors == []
    assert elsewhere == []
