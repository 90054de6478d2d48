"""The annotation page in a real browser: what mouse and keys do there, is in the folder and is read back by `FolderSource`."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from annotator import Annotator, Serving, iou, read_back, read_mask
from sdfsrn.annotating import grabcut, session
from sdfsrn.data.conventions import camera_from_angles, rotation_from_angles

HOSTILE = '<img src=x onerror="window.hacked = 1">.png'
NEW = {"scale": None, "x": None, "y": None}


@pytest.fixture
def visit(chromium, root):
    """Serve the folder and open the page; at the end nothing may have been complained about, nor asked for from elsewhere."""
    troubles = []
    with contextlib.ExitStack() as stack:

        def visit(**options):
            serving = Serving(root)
            stack.callback(serving.close)
            page = chromium.new_page(**({"viewport": {"width": 1280, "height": 720}} | options))
            stack.callback(page.close)
            home = serving.address.partition("?")[0]
            page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("request", lambda asked: None if asked.url.startswith((home, "blob:")) else troubles.append(asked.url))
            page.goto(serving.address)
            annotator = Annotator(page, serving)
            annotator.settle()
            return annotator

        yield visit
    assert troubles == []


def degrees_between(one, two):
    return float(np.degrees(Rotation.from_matrix(one @ two.T).magnitude()))


def check_folder(root, photos, dialled):
    rotations = read_back(root)
    assert sorted(rotations) == [f"chair_{i}.png" for i in range(len(photos))]
    for number, (_, alpha) in enumerate(photos):
        assert iou(read_mask(root, number), alpha) > 0.95
        expected = rotation_from_angles(*dialled[number], "nmr")
        assert degrees_between(rotations[f"chair_{number}.png"], expected) < 1


def test_the_box_is_drawn_by_the_camera_that_training_uses(visit):
    rng = np.random.default_rng(0)
    page = visit().page
    points = rng.uniform(-0.5, 0.5, (8, 3))
    for size in ((480, 384), (300, 2000), (64, 64)):
        for _ in range(20):
            angles = (rng.uniform(0, 360), rng.uniform(-90, 90), rng.uniform(-180, 180))
            scale, x, y = rng.uniform(0.1, 2), *rng.uniform(-1, 1, 2)
            pose = dict(zip(("azimuth", "elevation", "theta"), angles, strict=True), scale=scale, x=x, y=y)
            given = [pose, {"width": size[0], "height": size[1]}, points.tolist()]
            drawn = np.array(page.evaluate("async (given) => (await import('/page/projection.js')).project(...given)", given))
            camera = camera_from_angles(angles, scale, (x, y), "nmr", size)
            pose, intrinsics = (value.numpy() for value in camera)
            in_camera = points @ pose[:, :3].T
            screen = np.column_stack([in_camera[:, :2], np.ones(8)]) @ intrinsics.T
            expected = (screen[:, :2] + 1) / 2
            np.testing.assert_allclose(drawn[:, :2] / size, expected, atol=1e-6)
            np.testing.assert_allclose(drawn[:, 2], in_camera[:, 2], atol=1e-6)


def test_keys_that_buttons_name_press_these_buttons(visit):
    """In both steps: a digit on a button of the other step would turn the box unseen."""
    page = visit().page
    for step in ("m", "2"):
        page.keyboard.press(step)
        named = page.evaluate(
            """async () => {
                const { ACTIONS } = await import('/page/actions.js');
                const { step } = annotation;
                const fits = (key) => Object.keys(ACTIONS).filter((name) => ACTIONS[name].keys.includes(key.toLowerCase()));
                const runs = (key) => fits(key).find((name) => ACTIONS[name].step === step)
                    ?? fits(key).find((name) => !ACTIONS[name].step);
                return [...document.querySelectorAll('[data-action]')].filter((button) => button.checkVisibility())
                    .flatMap((button) => button.innerText.split(/\\s+/).filter((word) => word.length === 1)
                        .map((key) => [button.dataset.action, key, runs(key)]))
                    .filter(([, key]) => fits(key).length > 0);
            }"""
        )
        assert len(named) > 10
        assert [(action, key) for action, key, runs in named if action != runs] == []


def test_chairs_are_annotated_by_mouse_alone(visit, root, photos):
    annotator = visit()
    page = annotator.page
    dialled, expected = [], [np.array([0.0, 10.0, 0.0])]
    for number, (_, alpha) in enumerate(photos):
        annotator.settle()
        annotator.outline_by_mouse(alpha)
        page.click("[data-action=onward]")
        height, width = alpha.shape
        annotator.drag((width / 2, height / 2), (width / 2 + 60, height / 2 - 10 + 20 * number))
        page.click("[data-action=quarterMore]")
        turned = 0.35 * page.evaluate("annotation.stage.view.zoom") * np.array([60, -10 + 20 * number, 0]) + [90, 0, 0]
        expected.append(expected[-1] + turned)  # each begins at the pose before
        dialled.append(annotator.dialled())
        np.testing.assert_allclose(dialled[-1], expected[-1] % [360, 360, 360], atol=0.01)
        annotator.settle()
        page.click("[data-action=onward]")
    page.locator("#review[open]").wait_for()  # after the last
    assert page.inner_text("#count").startswith("3 of 3")
    check_folder(root, photos, dialled)


@pytest.mark.slow  # keys take milliseconds each
def test_chairs_are_annotated_by_keys_alone(visit, root, photos):
    annotator = visit()
    keyboard = annotator.page.keyboard
    dialled = []
    for number, (_, alpha) in enumerate(photos):
        annotator.settle()
        annotator.outline_by_keys(alpha)
        keyboard.press("Space")
        keyboard.press(str(2 * number + 1))
        for key in ("Shift+ArrowRight", "ArrowLeft", "ArrowLeft", "Shift+ArrowDown", "ArrowUp", ".", "."):
            keyboard.press(key)
        dialled.append(annotator.dialled())
        keyboard.press("Enter")
    annotator.page.locator("#review[open]").wait_for()
    assert dialled == [(45 * (2 * i + 1) + 8, 10 + 9 * (i + 1), -2 * (i + 1)) for i in range(3)]
    annotator.page.keyboard.press("Escape")
    annotator.settle()
    check_folder(root, photos, dialled)


@pytest.mark.slow
@pytest.mark.skipif(not grabcut.grabcut_installed(), reason="OpenCV is not installed")
def test_a_box_and_a_few_polygons_cut_a_chair_out(visit, root, photos):
    """As a person would: a box, then outlines of what the overlay has wrong, the largest first."""
    annotator = visit()
    alpha = photos[0][1]
    rows, columns = np.nonzero(alpha > 0.5)
    annotator.drag((columns.min() - 8, rows.min() - 8), (columns.max() + 9, rows.max() + 9))
    annotator.settle()
    first = iou(read_mask(root, 0), alpha)
    annotator.correct_by_mouse(alpha, lambda: read_mask(root, 0), 12)
    assert first > 0.7
    assert iou(read_mask(root, 0), alpha) > 0.95


def test_strokes_are_painted_before_the_server_answers(visit, root, monkeypatch):
    """The overlay under the pointer, while no answer comes; then mask and overlay agree, and the stroke is one step."""
    annotator = visit()
    page = annotator.page
    places = [(100, 100), (130, 100), (180, 100)]
    with monkeypatch.context() as silent:
        silent.setattr(annotator.serving.session, "edit", lambda index, body: threading.Event().wait())
        page.keyboard.press("r")
        if page.locator("[data-action=grabcut]").is_enabled():
            page.keyboard.press("g")
        annotator.drag((100, 100), (200, 100))
        annotator.drag((150, 100), (200, 100), "right")
        assert annotator.opacity(*places) == [255, 255, 0]
        assert not (root / "masks").exists()
        assert page.inner_text("#saved") == "saving ..."
    page.reload()  # gives the requests up
    annotator.settle()
    assert [read_mask(root, 0)[100, x] > 0.5 for x, _ in places] == [True, True, False]
    assert annotator.opacity(*places) == [255, 255, 0]
    assert page.evaluate("annotation.draft.undo") == 2


def test_a_mask_can_be_shown_by_what_is_dark_outside(visit):
    """For objects as green as the overlay: nothing lies over what is inside; hiding and the next press take it back."""
    annotator = visit()
    page = annotator.page
    page.keyboard.press("r")
    annotator.drag((100, 100), (200, 100))

    def over(*points):
        return page.evaluate(
            """(points) => {
                const { stage } = annotation;
                stage.draw();
                const { canvas } = stage.contexts.mask;
                const context = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
                context.drawImage(canvas, 0, 0);
                return points.map(([x, y]) => {
                    const at = stage.view.toStage(x, y).map((value) => Math.round(value * stage.ratio));
                    return [...context.getImageData(...at, 1, 1).data];
                });
            }""",
            [list(point) for point in points],
        )

    inside, outside = (150, 100), (150, 250)
    green, nothing = over(inside, outside)
    assert green[1] > green[0]
    assert green[3] > 0
    assert nothing[3] == 0
    page.keyboard.press("k")
    assert page.get_attribute("[data-action=dim]", "aria-pressed") == "true"
    bare, dark = over(inside, outside)
    assert bare[3] == 0
    assert dark[:3] == [0, 0, 0]
    assert dark[3] == pytest.approx(0.72 * 255, abs=2)
    page.keyboard.press("h")
    assert [pixel[3] for pixel in over(inside, outside)] == [0, 0]
    page.keyboard.press("h")
    page.keyboard.press("k")
    assert over(inside, outside) == [green, nothing]


def test_undo_and_redo_walk_through_strokes_turns_and_flags(visit, root):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    keyboard.press("r")
    annotator.drag((100, 100), (200, 100))
    annotator.settle()
    keyboard.press("2")
    for _ in range(5):
        keyboard.press("ArrowRight")  # within 400 ms: one step
    annotator.settle()
    keyboard.press("f")
    annotator.settle()
    keyboard.press("u")
    annotator.settle()

    def shown():
        annotator.settle()
        draft = page.evaluate("annotation.draft")
        return bool(draft["mask"]), draft["pose"] and round(draft["pose"]["azimuth"]), draft["unsure"]

    steps = [(True, 185, True), (True, 185, False), (True, 5, False), (True, None, False), (False, None, False)]
    walk = [shown()]
    for _ in range(4):
        keyboard.press("Control+z")
        walk.append(shown())
    assert walk == steps
    assert page.locator("#undo").is_disabled()
    page.reload()  # the history is the server's
    for step in steps[3::-1]:
        annotator.settle()
        keyboard.press("Control+Shift+Z")
        assert shown() == step
    assert page.locator("#redo").is_disabled()


def test_undo_takes_back_what_is_being_drawn_and_no_more(visit):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    keyboard.press("r")
    annotator.drag((100, 100), (200, 100))
    annotator.settle()
    page.mouse.move(*annotator.at(300, 300))
    page.mouse.down()
    page.mouse.move(*annotator.at(350, 300))
    keyboard.press("Control+z")
    page.mouse.up()
    annotator.settle()
    assert page.evaluate("annotation.draft.undo") == 1
    keyboard.press("o")
    for x, y in ((20, 20), (60, 20), (60, 60), (20, 60)):
        page.mouse.click(*annotator.at(x, y))
    keyboard.press("Control+z")
    assert len(page.evaluate("annotation.drawing.corners")) == 3
    keyboard.press("Escape")
    assert page.evaluate("[annotation.drawing.corners.length, annotation.draft.undo, annotation.outbox.items.length]") == [
        0,
        1,
        0,
    ]


def test_keys_are_silent_while_a_field_is_typed_in(visit):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    keyboard.press("2")
    page.click("#azimuth")
    page.fill("#azimuth", "")
    keyboard.type("1236")
    keyboard.press("Backspace")
    keyboard.press("ArrowLeft")
    assert annotator.dialled() == (0, 10, 0)
    keyboard.press("Enter")
    annotator.settle()
    assert annotator.dialled() == (123, 10, 0)
    keyboard.press("3")  # the field is left
    page.fill("#elevation", "91")  # out of range: not taken
    keyboard.press("Enter")
    annotator.settle()
    assert annotator.dialled() == (135, 10, 0)
    assert page.input_value("#elevation") == "10"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["0", "ArrowLeft"], (359, 10, 0)),
        (["7", "e"], (45, 10, 0)),
        (["1", "q"], (315, 10, 0)),
        (["f", "f", "f"], (180, 10, 0)),
        (["Shift+ArrowDown"] * 9, (0, 90, 0)),
        (["Shift+ArrowUp"] * 11, (0, -90, 0)),
        ([","] * 3 + ["."], (0, 10, 2)),
    ],
)
def test_angles_stay_in_their_ranges(visit, keys, expected):
    annotator = visit()
    annotator.page.keyboard.press("2")
    for key in keys:
        annotator.page.keyboard.press(key)
    annotator.settle()
    assert annotator.dialled() == expected
    assert annotator.page.evaluate("annotation.draft.pose") == dict(
        zip(("azimuth", "elevation", "theta"), expected, strict=True), **NEW
    )


def test_size_place_and_roll_by_mouse(visit):
    annotator = visit()
    page = annotator.page
    page.keyboard.press("2")
    annotator.drag((240, 192), (288, 173), "middle")
    page.mouse.wheel(0, -400)
    annotator.settle()
    pose, frame = page.evaluate("[annotation.draft.pose, annotation.draft.frame]")
    np.testing.assert_allclose([pose["x"], pose["y"]], [frame["x"] + 0.2, frame["y"] - 2 * 19 / 384], atol=1e-3)
    assert pose["scale"] > 1.1 * frame["scale"]
    page.keyboard.down("Shift")
    annotator.drag((388, 173), (288, 73))  # a quarter about the origin, counterclockwise
    page.keyboard.up("Shift")
    annotator.settle()
    assert abs(annotator.dialled()[2] - 90) < 1
    page.keyboard.press("a")
    annotator.settle()
    assert {name: page.evaluate("annotation.draft.pose")[name] for name in NEW} == NEW


def test_the_menu_of_the_right_button_stays_closed_over_the_picture_only(visit):
    page = visit().page
    prevented = """(selector) => !document.querySelector(selector).dispatchEvent(
        new MouseEvent('contextmenu', { bubbles: true, cancelable: true }))"""
    assert page.evaluate(prevented, "#overlay-layer")
    assert not page.evaluate(prevented, "#name")


def test_the_picture_stays_whole_and_the_pixels_right_when_the_window_changes(visit):
    annotator = visit(device_scale_factor=2)
    page = annotator.page
    for size in ({"width": 1920, "height": 1080}, {"width": 1280, "height": 720}):
        page.set_viewport_size(size)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        stage = page.locator("#stage").bounding_box()
        (left, top), (right, bottom) = annotator.at(0, 0), annotator.at(480, 384)
        assert stage["x"] < left < right < stage["x"] + stage["width"]
        assert stage["y"] < top < bottom < stage["y"] + stage["height"]
        assert page.evaluate("annotation.stage.contexts.picture.canvas.width") == round(2 * stage["width"])
        overflow = page.evaluate("document.documentElement.scrollHeight - innerHeight")
        assert overflow == 0
    page.keyboard.press("r")
    annotator.drag((100, 100), (200, 100))
    annotator.settle()
    assert annotator.opacity((150, 100), (150, 300)) == [255, 0]


def test_without_opencv_there_are_brush_and_polygon(visit, monkeypatch):
    monkeypatch.setattr(session, "grabcut_installed", lambda: False)
    page = visit().page
    assert page.locator("[data-action=grabcut]").is_disabled()
    assert page.locator("#no-grabcut").is_visible()
    assert page.locator("[data-action=polygon]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("g")
    assert page.locator("[data-action=grabcut]").get_attribute("aria-pressed") == "false"


def test_every_button_has_a_key_and_every_control_a_name(visit):
    page = visit().page
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, input, svg[role], progress')].filter((node) => !(
        node.textContent.trim() || node.ariaLabel || node.getAttribute('aria-labelledby') || node.labels?.length)).length""")
    assert unnamed == 0
    assert page.locator("[data-action]:not([aria-keyshortcuts])").count() == 0
    page.keyboard.press("?")
    words = page.inner_text("#help-keys")
    for key in ("Enter", "Space", "Ctrl+Z", "Ctrl+Shift+Z", "0-7", "Arrows", "[", "]", *"QEFXGZHCSTUNPLM"):
        assert key in words.split()
    page.keyboard.press("?")
    assert page.locator("#help").is_hidden()


def test_skipping_flags_and_the_way_through_the_folder(visit, root):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    keyboard.press("t")
    keyboard.press("u")
    keyboard.press("s")
    annotator.settle()
    assert page.inner_text("#name") == "chair_1.png"
    keyboard.press("p")
    annotator.settle()
    assert page.inner_text("#state") == "1 of 3 · skipped, unsure, cut off"
    assert page.inner_text("#count") == "0 of 2"
    assert page.get_attribute("#count", "title") == "1 skipped"
    keyboard.press("s")
    annotator.settle()
    assert page.inner_text("#state") == "1 of 3 · nothing yet, unsure, cut off"
    page.focus("#filmstrip [aria-current]")
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    annotator.settle()
    assert page.inner_text("#name") == "chair_2.png"
    assert page.evaluate("annotation.step") == "mask"  # Enter was the filmstrip's


def test_the_review_is_sorted_and_opens_pictures(visit):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    for azimuth in ("4", "0", "2"):
        keyboard.press("2")
        keyboard.press(azimuth)
        annotator.settle()
        keyboard.press("n")
        annotator.settle()
    keyboard.press("v")
    cells = page.locator(".sheet-cell .label")
    cells.nth(2).wait_for()
    assert [text.split()[:2] for text in cells.all_inner_texts()] == [
        ["0°", "chair_1.png"],
        ["90°", "chair_2.png"],
        ["180°", "chair_0.png"],
    ]
    keyboard.press("ArrowRight")
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    annotator.settle()
    assert page.locator("#review").is_hidden()
    assert page.inner_text("#name") == "chair_0.png"
    assert page.evaluate("annotation.step") == "pose"


def test_the_review_waits_for_what_was_done_before(visit, monkeypatch):
    """The server takes half a second for an edit; the keys come at once, the first ones before the picture is open."""
    annotator = visit()
    served = annotator.serving.session
    edit = served.edit
    monkeypatch.setattr(served, "edit", lambda *given: (time.sleep(0.5), edit(*given))[1])
    for key in ("n", "2", "Enter", "v"):
        annotator.page.keyboard.press(key)
    annotator.page.locator(".sheet-cell", has_text="chair_1.png").wait_for()


def test_hostile_names_stay_words(visit, root):
    (root / "chair_1.png").rename(root / HOSTILE.replace("/", ""))
    annotator = visit()
    annotator.page.keyboard.press("2")
    annotator.page.keyboard.press("Enter")
    annotator.page.keyboard.press("v")
    annotator.page.locator(".sheet-cell").wait_for()
    annotator.page.keyboard.press("Escape")
    annotator.settle()
    assert annotator.page.evaluate("window.hacked") is None
    assert HOSTILE in annotator.page.locator("#filmstrip button").evaluate_all("(cells) => cells.map((cell) => cell.title)")[0]


def test_a_predicted_shape_is_outlined_and_compared_with_the_mask(visit, monkeypatch):
    """A ball over a disc of its size: IoU 1; over a disc of half its radius: 1/4. No box is drawn."""
    ball = trimesh.creation.icosphere(3, 0.5)
    annotator = visit()
    page = annotator.page
    served = annotator.serving.session
    state, shape = served.state, {"vertices": ball.vertices.tolist(), "faces": ball.faces.tolist()}
    monkeypatch.setattr(served, "state", lambda: state() | {"model": True})
    monkeypatch.setattr(served, "shape", lambda index: shape)
    page.reload()
    annotator.settle()
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.column_stack([240 + 60 * np.cos(angles), 192 + 60 * np.sin(angles)])
    page.evaluate("(points) => annotation.edit({ do: 'polygon', add: true, points })", circle.tolist())
    annotator.settle()
    page.keyboard.press("2")
    page.locator("#iou:not([hidden])").wait_for()
    for radius, expected in ((60, 1), (120, 0.25)):
        pose = {"azimuth": 30, "elevation": 20, "theta": 0, "scale": 4 * radius / 480, "x": 0, "y": 0}
        page.evaluate("(pose) => annotation.posing.change(pose)", pose)
        annotator.settle()
        assert abs(page.evaluate("annotation.iou") - expected) < 0.03
        drawn = page.evaluate(
            """([x, y]) => {
            const { canvas } = annotation.stage.contexts.overlay;
            const context = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const [left, top] = annotation.stage.view.toStage(x, y);
            return context.getImageData(left - 4, top - 4, 9, 9).data.some((value, i) => i % 4 === 3 && value > 200);
        }""",
            [240 - radius * np.sqrt(0.5), 192 - radius * np.sqrt(0.5)],
        )
        assert drawn
    assert page.inner_text("#iou").endswith("IoU 0.25")


def test_the_review_shows_what_deserves_a_look_and_takes_a_better_pose(visit, monkeypatch):
    annotator = visit()
    page, keyboard = annotator.page, annotator.page.keyboard
    keyboard.press("2")
    keyboard.press("2")
    annotator.settle()
    better = {"azimuth": 270, "elevation": 10, "theta": 0, **NEW}
    look = [{"id": 0, "reason": "turned by 180 degrees fits better", "iou": 0.4, "better": better}]
    monkeypatch.setattr(annotator.serving.session, "review", lambda: {"sheet": [0], "look": look})
    keyboard.press("v")
    page.locator("#sheet h3", has_text="Look at this picture").wait_for()
    page.locator(".better", has_text="270°").click()
    annotator.settle()
    assert annotator.dialled() == (270, 10, 0)
    assert page.evaluate("annotation.draft.pose") == better
