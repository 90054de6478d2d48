"""A browser, and photos of chairs, for the tests of the page."""

from __future__ import annotations

import pytest

from annotator import chair_photos, write_photos
from browsers import chromium_launcher

OPTIONS = ["--no-sandbox", "--disable-gpu"]


@pytest.fixture(scope="module")
def launcher():
    """Start a browser, with a folder of its own if one is given."""
    with chromium_launcher(OPTIONS, "NO PAGE OPENED IN A BROWSER") as launch:
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
