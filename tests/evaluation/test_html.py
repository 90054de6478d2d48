"""The report in a real browser: what it shows, that it turns and sorts, and that nothing gets in or out."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import re
import zlib

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from browsers import chromium_launcher
from sdfsrn.evaluation import html as report
from sdfsrn.evaluation.html import Metric, ReportObject, coarsen, three, write_report
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.meshes.rendering import orbit_camera, render_mesh

DASH = "\N{EN DASH}"  # for what is missing
SWIFTSHADER = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
SETTLED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
STAGE = [0xF1, 0xF3, 0xF5]  # behind a mesh, on a light page
CHAMFER = [0.3, 0.1, float("nan"), 0.2, 0.05, 0.4]  # from best to worst: e b d a f
IOU = [0.9, 0.5, float("nan"), 0.6, 0.7, 0.8]
METRICS = {
    "chamfer": Metric(0.21, 0.2, (0.1, 0.3), {"untrained sphere": 0.35, "far away": 3.0}),
    "iou": Metric(0.7, 0.7, higher_is_better=True),
}


def rows_of_six():
    return [
        {
            "name": name,
            "status": "failure: no surface" if name == "c" else "ok",
            "chamfer": chamfer,
            "iou": iou,
            "faces": 10 * i,
        }
        for i, (name, chamfer, iou) in enumerate(zip("abcdef", CHAMFER, IOU, strict=True))
    ]


def solid():
    """A ball with a horn upwards, an arm to +x and a plate in front, so that no two views are alike; red at +x, else blue."""
    parts = [trimesh.creation.icosphere(3, 0.3)]
    for extents, at in (([0.1, 0.5, 0.1], [0, 0.4, 0]), ([0.4, 0.1, 0.1], [0.4, 0, 0]), ([0.3, 0.3, 0.1], [0, -0.1, -0.4])):
        parts.append(trimesh.creation.box(extents).apply_translation(at))
    mesh = trimesh.util.concatenate(parts)
    mesh.visual.vertex_colors = np.where(mesh.vertices[:, :1] > 0.31, [220, 30, 30, 255], [30, 60, 220, 255]).astype(np.uint8)
    return mesh


def pictures(count=5):
    headings = ("input", "rendered", "mask", "depth", "normals")
    return {heading: np.full((8, 8, 3), 40 * i, np.uint8) for i, heading in enumerate(headings[:count])}


def ball_points(count=2000):
    return trimesh.creation.icosphere(4, 0.4).vertices[:count]


OBJECTS = {
    0: ReportObject(pictures(), solid(), ball_points()),
    2: ReportObject(pictures(), trimesh.Trimesh(), ball_points()),
    4: ReportObject(pictures(), solid(), trimesh.creation.box((0.5, 0.5, 0.5))),
    5: ReportObject(pictures(), solid(), None),
}


@pytest.fixture(scope="module")
def chromium():
    with chromium_launcher(SWIFTSHADER, "NO REPORT OPENED IN A BROWSER") as launch:
        browser = launch()
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Write a report and open it; at the end nothing may have been complained about, nor asked for from elsewhere."""
    troubles, opened = [], []

    def visit(rows=None, objects=OBJECTS, metrics=METRICS, title="A report", facts=None, before="", **options):
        path = tmp_path / f"{len(opened)}.html"
        write_report(path, title, facts or {}, metrics, rows_of_six() if rows is None else rows, objects)
        page = chromium.new_page(viewport={"width": 800, "height": 600}, **options)
        opened.append(page)
        page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: None if request.url == path.as_uri() else troubles.append(request.url[:80]))
        page.route(lambda url: url != path.as_uri() and not url.startswith("data:"), lambda route: route.abort())
        page.add_init_script(before)
        page.goto(path.as_uri())
        return page

    visit.troubles = troubles
    yield visit
    for page in opened:
        page.close()
    assert [trouble for trouble in troubles if not trouble.startswith("data:image/png;")] == []


def seen(page, canvas="#mesh"):
    """The pixels of a canvas, once what it shows has arrived."""
    page.locator("#mesh-size:not(:empty)").wait_for()
    page.evaluate(SETTLED)
    pixels = np.asarray(Image.open(io.BytesIO(page.locator(canvas).screenshot())).convert("RGB")).astype(int)
    return np.pad(pixels[10:-10, 10:-10], [(10, 10), (10, 10), (0, 0)], constant_values=-1)  # its corners are round


def covered(pixels):
    return (pixels >= 0).all(-1) & (abs(pixels - STAGE) > 8).any(-1)


def drag(page, canvas, right, down):
    box = page.locator(canvas).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up()


def names(page):
    return page.locator("#table tbody .name").all_inner_texts()


def test_the_viewer_shows_the_mesh_as_our_own_renderer_does(visit):
    """The same camera, asked of `render_mesh`: outline and colours agree, so places, faces, colours and the view are right."""
    pixels = seen(visit(objects={0: ReportObject(pictures(), solid(), None)}))
    height, width = pixels.shape[:2]
    mesh = solid()
    radius = np.linalg.norm(mesh.extents) / 2
    slope = np.tan(np.radians(14))
    towards = orbit_camera(mesh, 35, 20).world_to_camera.clone()
    towards[..., :3, 3] = -towards[..., :3, :3] @ torch.from_numpy(mesh.bounds.mean(0))
    towards[..., 2, 3] += radius / np.sin(np.arctan(slope))
    side = min(height, width)
    intrinsics = torch.diag(torch.tensor([side / width / slope, side / height / slope, 1.0], dtype=torch.float64))[None]
    expected = render_mesh(mesh, PerspectiveCamera(towards, intrinsics), (height, width))
    there, wanted = covered(pixels), expected.mask > 0.5
    assert (there & wanted).sum() > 0.97 * (there | wanted).sum()
    for redder in (pixels, expected.color.astype(int)):
        assert 0.02 < ((redder[..., 0] > redder[..., 2] + 60)[wanted]).mean() < 0.4
    agree = (pixels[..., 0] > pixels[..., 2]) == (expected.color[..., 0].astype(int) > expected.color[..., 2])
    assert agree[there & wanted].mean() > 0.97


def test_mesh_and_truth_turn_together_zoom_and_return(visit):
    page = visit()
    start = {canvas: seen(page, canvas) for canvas in ("#mesh", "#truth")}
    assert all(0.02 < covered(pixels).mean() < 0.9 for pixels in start.values())
    drag(page, "#truth", 70, 30)
    turned = {canvas: seen(page, canvas) for canvas in start}
    assert all((abs(turned[canvas] - start[canvas]) > 20).any(-1).mean() > 0.005 for canvas in start)
    page.mouse.wheel(0, -400)
    assert covered(seen(page)).sum() > 1.5 * covered(turned["#mesh"]).sum()
    page.click("#reset")
    assert all((seen(page, canvas) == start[canvas]).mean() > 0.999 for canvas in start)


def test_the_mesh_follows_the_pointer(visit):
    """What faces the viewer goes where the pointer goes: the red arm, seen from its side, to the right, then down."""
    page = visit(objects={0: ReportObject(pictures(), solid(), None)})

    def red_middle(pixels):
        return np.argwhere(pixels[..., 0] > pixels[..., 2] + 60).mean(0)

    start = red_middle(seen(page))
    drag(page, "#mesh", 40, 0)
    right = red_middle(seen(page))
    assert right[1] > start[1] + 10
    drag(page, "#mesh", 0, 40)
    assert red_middle(seen(page))[0] > right[0] + 5


def test_keys_turn_the_mesh_and_open_objects(visit):
    page = visit()
    start = seen(page)
    page.focus("#mesh")
    page.keyboard.press("ArrowRight")
    assert (seen(page) != start).any(-1).mean() > 0.005
    page.keyboard.press("0")
    assert (seen(page) == start).mean() > 0.999
    page.focus("#table thead [data-key=chamfer] button")
    page.keyboard.press("Enter")
    assert names(page)[0] == "e"
    page.focus("#table tbody button >> nth=0")
    page.keyboard.press("Enter")
    assert page.inner_text("#look-heading .name") == "e"


def test_the_colors_can_be_taken_off(visit):
    page = visit()
    red = (seen(page)[..., 0] > seen(page)[..., 2] + 60).mean()
    page.uncheck("#colors")
    gray = seen(page)
    assert red > 0.002
    assert (gray[..., 0] > gray[..., 2] + 20).mean() == 0
    assert covered(gray).mean() > 0.02


def test_the_table_sorts_by_any_column_with_what_is_missing_last(visit):
    page = visit()
    assert names(page) == list("abcdef")
    heading = page.locator("#table thead [data-key=chamfer]")
    heading.locator("button").click()
    assert names(page) == list("ebdafc")
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert names(page) == list("fadbec")
    assert heading.get_attribute("aria-sort") == "descending"
    page.click("#table thead [data-key=name] button")
    assert names(page) == list("abcdef")
    assert heading.get_attribute("aria-sort") == "none"
    failed = page.locator("#table tbody tr.failed").all_inner_texts()
    assert failed[0].split() == ["c", "failure:", "no", "surface", DASH, DASH, "20"]  # the reason first: wide tables scroll
    page.fill("#find", "FAILURE")
    assert names(page) == ["c"]


def test_long_tables_are_shown_in_part_until_asked_for(visit):
    rows = [{"name": f"object {i}", "status": "ok", "chamfer": i / 1000} for i in range(1234)]
    page = visit(rows, {}, {"chamfer": Metric(0.5, 0.5)})
    assert len(names(page)) == 200
    page.click("#table thead [data-key=name] button")
    page.click("#table thead [data-key=name] button")
    assert names(page)[0] == "object 1233"  # sorted as a whole, and numbers in names as numbers
    page.click("text=Show all 1,234")
    assert len(names(page)) == 1234


def test_the_metric_chooses_histogram_and_ranking(visit):
    page = visit()
    counts = list(map(int, page.locator("#histogram rect + text").all_text_contents()))
    assert sum(counts) == 5
    caption = page.inner_text("#histogram figcaption")
    assert "mean 0.210" in caption
    assert "untrained sphere 0.350" in caption
    assert "far away 3.000 (off the chart)" in caption
    assert page.locator("#histogram line.mark").count() == 2
    first = page.inner_html("#histogram")
    ranked = page.locator("#ranking .name")
    assert ranked.all_inner_texts() == ["e", "d", "f"]
    page.select_option("#metric", "iou")
    assert page.inner_html("#histogram") != first
    assert (
        page.locator("#histogram svg")
        .get_attribute("aria-label")
        .startswith("Histogram of IoU over 5 objects, from 0.500 to 0.900")
    )
    assert ranked.all_inner_texts() == ["a", "e", "b"]  # higher is better
    page.click("#ranking button >> nth=1")
    assert page.inner_text("#look-heading .name") == "e"


def test_numbers_of_all_objects_and_facts(visit):
    page = visit(facts={"data": "chairs", "seed": 0, "protocol": {"resolution": 128, "low": -0.6}})
    assert page.locator("#numbers tbody tr").nth(0).inner_text().split() == [
        *("chamfer", "↓", "0.210", "0.100", DASH, "0.300", "0.200", "0.350", "3.000")
    ]
    assert page.locator("#numbers tbody tr").nth(1).inner_text().split() == ["IoU", "↑", "0.700", DASH, "0.700", DASH, DASH]
    assert page.inner_text("#counts") == "6 objects, 5 measured, 1 failed"
    assert page.inner_text("#facts").split() == ["data", "chairs", "seed", "0"]
    page.click("summary")
    assert page.inner_text("#details dl").split() == ["resolution", "128", "low", "-0.6"]


def test_every_object_has_its_pictures(visit):
    page = visit()
    assert page.locator("#pictures figcaption").all_inner_texts() == ["input", "rendered", "mask", "depth", "normals"]
    shades = page.evaluate("""() => [...document.querySelectorAll('#pictures img')].map((image) => {
        const context = Object.assign(document.createElement('canvas'), {width: 8, height: 8}).getContext('2d');
        context.drawImage(image, 0, 0);
        return context.getImageData(4, 4, 1, 1).data[0];
    })""")
    assert shades == [0, 40, 80, 120, 160]
    page.click("#next")
    assert page.inner_text("#look-heading") == "c failure: no surface"
    page.click("#previous")
    page.click("#previous")
    assert page.inner_text("#look-heading") == "f ok"


def test_hostile_words_stay_words(visit):
    rows = [row | {"name": HOSTILE, "status": f"failure: {HOSTILE}", HOSTILE: HOSTILE} for row in rows_of_six()]
    metrics = {"chamfer": Metric(0.2, 0.2, None, {HOSTILE: 0.1}), HOSTILE: Metric(None, None)}
    objects = {0: ReportObject({HOSTILE: np.zeros((4, 4, 3), np.uint8)}, solid(), None)}
    page = visit(rows, objects, metrics, title=HOSTILE, facts={HOSTILE: HOSTILE, "protocol": {HOSTILE: {HOSTILE: [HOSTILE]}}})
    page.select_option("#metric", HOSTILE)
    page.click("#table tbody button")
    assert page.title() == page.inner_text("#title") == HOSTILE
    assert names(page) == [HOSTILE] * 6
    assert page.inner_text("#look-heading .name") == HOSTILE
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 2


def test_injected_script_does_not_run(visit):
    page = visit()
    blocked = page.evaluate("""() => new Promise((done) => {
        document.addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));
        document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}));
    })""")
    assert blocked.startswith("script-src")
    assert page.evaluate("window.hacked") is None
    assert "Executing inline script violates" in visit.troubles.pop()


def test_objects_without_mesh_or_truth(visit):
    page = visit()
    seen(page)
    page.click("#filmstrip [data-row='2']")
    page.locator("#mesh-size", has_text="no surface was found").wait_for()
    assert covered(seen(page)).mean() == 0
    assert covered(seen(page, "#truth")).mean() > 0.02
    page.click("#filmstrip [data-row='5']")
    page.locator("#truth-pane").wait_for(state="hidden")
    assert covered(seen(page)).mean() > 0.02
    page.click("#filmstrip [data-row='4']")
    page.locator("#truth-size", has_text="12 faces").wait_for()
    assert covered(seen(page, "#truth")).mean() > 0.02
    page = visit(objects={0: ReportObject(pictures(), None, ball_points())})
    page.locator("#mesh-size", has_text="no file of it was written").wait_for()


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_a_report_without_measures_and_objects(visit, count):
    nan = float("nan")
    rows = [{"name": f"object {i}", "status": "no ground truth", "chamfer": nan} for i in range(count)]
    page = visit(rows, {}, {"chamfer": Metric(None, nan)})
    assert page.inner_text("#histogram") == "No object was measured."
    assert page.is_visible("#no-objects")
    assert not page.is_visible("#object")
    assert len(names(page)) == count
    assert page.locator("#numbers tbody tr").inner_text().split() == ["chamfer", "↓", DASH, DASH]


def test_one_value_and_equal_values_have_histograms(visit):
    for values in ([0.2], [0.2, 0.2], [0.0, 0.0, 0.0], [-1.0, 5.0]):
        rows = [{"name": "a", "status": "ok", "chamfer": value} for value in values]
        page = visit(rows, {}, {"chamfer": Metric(float(np.mean(values)), values[0])})
        assert sum(map(int, page.locator("#histogram rect + text").all_text_contents())) == len(values)


def test_without_webgl_the_rest_is_there(visit):
    page = visit(before="HTMLCanvasElement.prototype.getContext = () => null")
    assert "no WebGL 2" in page.inner_text("#viewer-message")
    assert not page.is_visible("#viewer")
    assert page.locator("#pictures img").count() == 5
    page.click("#next")
    assert page.inner_text("#look-heading .name") == "c"
    assert len(names(page)) == 6


def test_narrow_and_dark(visit):
    rows = [row | {"name": row["name"] + "x" * 80} for row in rows_of_six()]
    page = visit(rows, title="x" * 60, facts={"checkpoint": "/a/" + "y" * 90}, color_scheme="dark")
    page.set_viewport_size({"width": 340, "height": 700})
    page.evaluate(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    left, right = (page.locator(canvas).bounding_box() for canvas in ("#mesh", "#truth"))
    assert right["y"] > left["y"] + left["height"]  # one above the other
    assert left["width"] > 250


def arrays(packed):
    """A packed shape as the page unpacks it: vertices, faces."""
    read = {key: zlib.decompress(base64.b64decode(packed[key])) for key in ("vertices", "faces")}
    places = np.frombuffer(read["vertices"], "<u2").reshape(-1, 3) / 65535
    return packed["low"] + places * packed["extent"], np.frombuffer(read["faces"], "<i4").cumsum().reshape(-1, 3)


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_what_is_packed_is_the_mesh_to_16_bits(tmp_path):
    mesh = solid()
    broken = trimesh.Trimesh(
        [*mesh.vertices, [np.nan] * 3, [9, 9, 9]], [*mesh.faces, [0, 1, len(mesh.vertices)]], process=False
    )
    write_report(tmp_path / "r.html", "", {}, METRICS, rows_of_six(), {3: ReportObject(pictures(1), broken, ball_points())})
    found = data_of(tmp_path / "r.html")
    vertices, faces = arrays(found["objects"]["3"]["mesh"])
    assert abs(vertices[faces] - mesh.vertices[mesh.faces]).max() <= mesh.extents.max() / 65535 / 2 * 1.001
    assert len(vertices) == len(mesh.vertices)  # neither the broken one nor the one of no face
    points, none = arrays(found["objects"]["3"]["truth"])
    assert abs(points - ball_points()).max() <= 0.8 / 65535
    assert len(none) == 0
    assert [row[2] for row in found["rows"]] == [0.3, 0.1, None, 0.2, 0.05, 0.4]  # NaN is no JSON


def test_coarser_meshes_keep_shape_colors_and_closedness():
    ball = trimesh.creation.icosphere(6)
    top = (ball.vertices[:, 1:2] > 0) * np.array([200.0, 100.0, 0.0])
    for most in (60_000, 5_000, 300):
        faces, (vertices, colors) = coarsen(ball.faces, [ball.vertices, top], most)
        assert most / 2 < len(faces) <= most
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        assert abs(np.linalg.norm(vertices, axis=1) - 1).max() < 12 / most
        assert mesh.volume == pytest.approx(4 / 3 * np.pi, rel=0.01 + 25 / most)  # outward as before
        assert abs(colors[vertices[:, 1] > 0.2] - [200, 100, 0]).max() < 1e-9
    same, (vertices,) = coarsen(ball.faces, [ball.vertices], len(ball.faces))
    assert same is ball.faces
    assert vertices is ball.vertices


def test_large_meshes_are_coarser_in_the_page_which_says_so(visit, monkeypatch):
    monkeypatch.setattr(report, "MOST_FACES", 500)
    monkeypatch.setattr(report, "MOST_POINTS", 100)
    page = visit(objects={0: ReportObject(pictures(), solid(), ball_points(1500))})
    assert covered(seen(page)).mean() > 0.02
    assert re.fullmatch(r"1,316 faces \(\d{3} drawn here\)", page.inner_text("#mesh-size"))
    assert page.inner_text("#truth-size") == "1,500 points (100 drawn here)"


def test_twenty_four_large_objects_stay_below_25_megabytes(tmp_path):
    """With colours and points that do not compress, the hardest case; what every page has (three.js) counts once."""
    generator = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(6)
    ball.vertices += generator.normal(scale=0.002, size=ball.vertices.shape)
    ball.visual.vertex_colors = generator.integers(0, 255, (len(ball.vertices), 3), dtype=np.uint8)
    noise = {heading: generator.integers(0, 255, (64, 64, 3), dtype=np.uint8) for heading in pictures()}
    item = ReportObject(noise, ball, generator.normal(size=(30_000, 3)))
    sizes = []
    for objects in ({}, {0: item}):
        write_report(tmp_path / "r.html", "", {}, METRICS, rows_of_six(), objects)
        sizes.append((tmp_path / "r.html").stat().st_size)
    none, one = sizes
    assert none < 800e3
    assert none + 24 * (one - none) < 25e6


def test_three_js_comes_without_the_program_of_its_viewer_and_another_bundle_is_named(monkeypatch):
    assert "TrackballControls" in three.__wrapped__()
    assert "B64GLTF" not in three.__wrapped__()
    assert "init();" not in three.__wrapped__()
    monkeypatch.setattr(trimesh.viewer, "scene_to_html", lambda scene: "<script>another</script>")
    with pytest.raises(ValueError, match=f"Expected three.js .* trimesh {trimesh.__version__}"):
        three.__wrapped__()


@pytest.mark.parametrize(
    ("rows", "metrics", "objects", "words"),
    [
        (
            [{"name": "a", "status": "ok", "x": 1.0}, {"name": "a", "status": "ok"}],
            {},
            {},
            "Expected rows of the columns name, status, x",
        ),
        ([{"name": "a", "status": "ok"}], {"x": Metric(1.0, 1.0)}, {}, "Expected a column x, got name, status"),
        ([{"status": "ok"}], {}, {}, "Expected a column name"),
        ([{"name": "a", "status": "ok"}], {}, {1: OBJECTS[0]}, "Expected objects among the 1 rows, got number 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, rows, metrics, objects, words):
    with pytest.raises(ValueError, match=words):
        write_report(tmp_path / "r.html", "", {}, metrics, rows, objects)
    assert list(tmp_path.iterdir()) == []


def test_the_page_names_no_other_place():
    """Save for the names of XML's languages, which nobody looks up."""
    for asset in (importlib.resources.files("sdfsrn.evaluation") / "assets").iterdir():
        text = (
            asset.read_text(encoding="utf-8")
            .replace("http://www.w3.org/2000/svg", "")
            .replace("http://www.w3.org/1999/xhtml", "")
        )
        assert not re.search(r"https?:|//\w+\.\w+/|@import|url\(|</script.", text) or asset.name == "report.html"
