"""A browser, and photos of chairs, for the tests of the page."""

from __future__ import annotations

import shutil

import pytest

from annotator import chair_photos, write_photos

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu"]


@pytest.fixture(scope="module")
def launcher():
    """Start a browser, with a folder of its own if one is given."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="NO PAGE OPENED IN A BROWSER: PLAYWRIGHT IS NOT INSTALLED")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"NO PAGE OPENED IN A BROWSER: NONE OF {', '.join(BROWSERS)} IS ON THE PATH")
    with sync_api.sync_playwright() as playwright:

        def launch(folder=None):
            options = {"executable_path": found, "args": OPTIONS}
            if folder is None:
                return playwright.chromium.launch(**options)
            return playwright.chromium.launch_persistent_context(str(folder), **options)

        yield launch


@pytest.fixture(scope="module")
def chromium(launcher):
    browser = launcher()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return chair_photos(tmp_path_factory.mktemp("chairs"))


@pytest.fixture
def root(tmp_path, photos):
    return write_photos(tmp_path / "my_chairs", photos)
