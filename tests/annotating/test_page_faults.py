"""Killed browsers, killed servers, servers that refuse or do not answer; and how fast the page is with large pictures."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import annotator
from annotator import TOKEN, Annotator, Serving, read_mask

GRID = [(x, y) for y in range(20, 380, 25) for x in range(20, 470, 25)]  # of dabs that do not touch
SLOWNESS = 0.15  # seconds that an edit takes longer, before and after it is written


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_page(context, port):
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/?token={TOKEN}")
    person = Annotator(page)
    person.settle()
    page.keyboard.press("m")
    page.keyboard.press("r")
    if page.locator("[data-action=grabcut]").get_attribute("aria-pressed") == "true":
        page.keyboard.press("g")
    return person


def dab(person, place):
    person.drag(place, place)


@pytest.fixture
def servers(root):
    """Serve the folder in one process after the other; the function waits for the next and gives its number."""
    port = free_port()
    command = [sys.executable, annotator.__file__, str(root), str(port), str(SLOWNESS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield port, lambda: int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_server_loses_nothing_and_does_nothing_twice(servers, launcher, root):
    """Dabs, turns and flags go on while it is gone; afterwards each is there, and each is one step of undo."""
    port, next_server = servers
    rng = random.Random(0)
    server = next_server()
    browser = launcher()
    person = open_page(browser.new_context(viewport={"width": 1280, "height": 720}), port)
    page = person.page
    places, steps, troubled = iter(GRID), 0, 0
    made = []
    for _ in range(10):
        for _ in range(3):
            made.append(next(places))
            dab(person, made[-1])
            steps += 1
        page.keyboard.press("u")
        time.sleep(rng.uniform(0, 8 * SLOWNESS))
        os.kill(server, signal.SIGKILL)
        made.append(next(places))
        dab(person, made[-1])
        page.keyboard.press("t")
        steps += 3
        page.locator("#saved.trouble").wait_for()
        troubled += page.inner_text("#saved") == "not saved: the server does not answer, trying again"
        server = next_server()
    person.settle()
    assert page.inner_text("#saved").startswith("saved ")
    browser.close()
    mask = read_mask(root, 0)
    assert [mask[y, x] for x, y in made] == [1.0] * len(made)
    assert troubled == 10
    person = open_page(launcher().new_context(), port)
    assert person.page.evaluate("annotation.draft.undo") == steps
    assert not person.page.evaluate("annotation.draft.unsure || annotation.draft.cut_off")  # ten times each


@pytest.mark.slow
def test_a_killed_browser_loses_the_running_gesture_at_most(servers, launcher, root, tmp_path):
    """The queue of a slow server is longer than a moment: it survives in the browser's own folder."""
    port, next_server = servers
    next_server()
    rng = random.Random(1)
    places, sure, lost = iter(GRID), [], 0
    for _ in range(8):
        context = launcher(tmp_path / "profile")
        person = open_page(context, port)
        mask = read_mask(root, 0) if sure else None
        assert [mask[y, x] for x, y in sure] == [1.0] * len(sure)
        made = [next(places) for _ in range(rng.randrange(2, 6))]
        for place in made:
            dab(person, place)
        time.sleep(rng.uniform(0, 0.3))
        kill_browser(tmp_path / "profile")
        with contextlib.suppress(Exception):
            context.close()
        sure += made[:-1]
    person = open_page(launcher(tmp_path / "profile"), port)
    mask = read_mask(root, 0)
    assert [mask[y, x] for x, y in sure] == [1.0] * len(sure)
    assert lost == 0


def kill_browser(folder):
    """SIGKILL to every process of the browser that uses the folder."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)


def test_a_page_of_a_server_that_was_started_anew_says_so(launcher, root):
    """It stops, and what was not saved is sent by the page at the new address."""
    browser = launcher()
    context = browser.new_context()
    serving = Serving(root)
    port = serving.server.server_port
    person = open_page(context, port)
    dab(person, (100, 100))
    person.settle()
    serving.server.token = "another"
    dab(person, (200, 100))
    person.page.locator("#curtain", has_text="open the one that it prints").wait_for()
    assert read_mask(root, 0)[100, 200] == 0
    page = context.new_page()
    page.goto(serving.address)
    Annotator(page).settle()
    assert [read_mask(root, 0)[100, x] for x in (100, 200)] == [1, 1]
    assert page.evaluate("annotation.draft.undo") == 2
    browser.close()
    serving.close()


@pytest.mark.slow
def test_a_second_tab_waits_for_the_first(launcher, root):
    browser = launcher()
    context = browser.new_context()
    serving = Serving(root)
    first = open_page(context, serving.server.server_port)
    second = context.new_page()
    second.goto(serving.address)
    second.locator("#curtain", has_text="open in another tab").wait_for()
    dab(first, (100, 100))
    first.settle()
    first.page.close()
    Annotator(second).settle()
    assert second.evaluate("annotation.draft.undo") == 1
    browser.close()
    serving.close()


@pytest.mark.parametrize(("status", "words"), [(400, "Expected something else."), (500, "No space left on device")])
def test_refused_edits_are_shown_and_others_tried_again(launcher, root, status, words):
    browser = launcher()
    serving = Serving(root)
    person = open_page(browser.new_context(), serving.server.server_port)
    page = person.page
    answers = []

    def refuse(route):
        answers.append(route)
        if len(answers) > 1:
            return route.continue_()
        return route.fulfill(status=status, json={"error": words})

    page.route("**/edits", refuse)
    dab(person, (100, 100))
    if status == 400:
        page.locator("#note", has_text=words).wait_for()
        person.settle()
        assert person.opacity((100, 100)) == [0]  # shown is what is saved
    else:
        page.locator("#saved", has_text=f"not saved: {words}, trying again").wait_for()
        person.settle()
        assert read_mask(root, 0)[100, 100] == 1
    browser.close()
    serving.close()


@pytest.mark.slow
def test_120_large_pictures_answer_keys_at_once(launcher, tmp_path, record_property):
    """Milliseconds from a key to the end of the frame that shows it: reported, not asserted."""
    root = tmp_path / "large"
    root.mkdir()
    small = np.random.default_rng(0).integers(0, 255, (120, 12, 16, 3), dtype=np.uint8)
    for number, pixels in enumerate(small):
        Image.fromarray(pixels).resize((2000, 1500), Image.Resampling.BICUBIC).save(root / f"{number:03}.jpg", quality=85)
    serving = Serving(root)
    browser = launcher()
    person = open_page(browser.new_context(viewport={"width": 1280, "height": 720}), serving.server.server_port)
    page = person.page
    page.evaluate("""() => { window.press = async (key) => {
        const start = performance.now();
        document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
        await new Promise(requestAnimationFrame);
        return performance.now() - start;
    }; }""")
    dab(person, (1000, 700))
    person.settle()
    times = {}
    for step, keys in (("m", ["x", "]", "[", "h", "ArrowRight"]), ("2", ["ArrowRight", "3", "f", "q", ",", "h"])):
        page.evaluate("(key) => press(key)", step)
        for key in keys:
            times[f"{step} {key}"] = [page.evaluate("(key) => press(key)", key) for _ in range(20)]
    person.settle()
    times["n"] = []
    for _ in range(20):
        times["n"].append(page.evaluate("() => press('n')"))
        assert page.evaluate("annotation.stage.frame") == 0  # drawn
        person.settle()
        page.wait_for_timeout(300)  # a look at the picture
    medians = {key: round(statistics.median(values), 1) for key, values in times.items()}
    record_property("milliseconds from key to redraw", medians)
    sys.stdout.write(f"median milliseconds from key to redraw, 120 pictures of 2000 x 1500: {medians}\n")
    assert page.inner_text("#name") == "020.jpg"
    browser.close()
    serving.close()
