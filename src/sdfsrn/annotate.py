"""python -m sdfsrn.annotate data.root=...: a page that gives a folder of photos silhouettes and poses."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import webbrowser

from omegaconf import DictConfig

from sdfsrn.annotating.grabcut import grabcut_installed
from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.cli.command import command

log = logging.getLogger(__name__)


def annotate(config: DictConfig) -> None:
    """Serve the page as configured, until interrupted.

    Raises:
        ValueError: a folder without pictures, or one that cannot be used; a port that is taken.
    """
    session = Session(config.data.root, config.data.crop, config.data.convention)
    if not grabcut_installed():
        log.info("Without OpenCV there are brush and polygon only: pip install 'sdfsrn[annotate]' adds GrabCut.")
    serve(session, config.port or 0, config.open)


def serve(session: Session, port: int, browse: bool) -> None:
    """Serve a session until SIGINT or SIGTERM; every edit is saved by then."""
    stop = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Server(session, port) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            log.info("The page is at %s (stop it with Ctrl-C)", server.address)
            if browse and _has_screen():
                webbrowser.open(server.address)
            stop.wait()
            server.shutdown()
        session.close()
        log.info("Everything is saved in %s", session.root)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _has_screen() -> bool:
    """Whether a browser would get a window, rather than this terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


main = command("annotate")(annotate)

if __name__ == "__main__":
    main()
