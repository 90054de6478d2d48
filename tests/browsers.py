"""Headless Chromium for the tests of pages."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextlib.contextmanager
def chromium_launcher(arguments: list[str], untested: str) -> Iterator[Callable[[pathlib.Path | None], Any]]:
    """A function that starts a browser, with a folder of its own if one is given; without any, skip, saying what is `untested`.

    Only one may be open in a process at a time.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason=f"{untested}: PLAYWRIGHT IS NOT INSTALLED")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"{untested}: NONE OF {', '.join(NAMES)} IS ON THE PATH")
    options: dict[str, Any] = {"executable_path": found, "args": arguments}
    with sync_api.sync_playwright() as playwright:

        def launch(folder: pathlib.Path | None = None) -> Any:
            if folder is None:
                return playwright.chromium.launch(**options)
            return playwright.chromium.launch_persistent_context(str(folder), **options)

        yield launch
