"""python -m sdfsrn.annotate data.root=...: a page that gives a folder of photos silhouettes and poses."""

from __future__ import annotations

import logging
import signal
import threading
import webbrowser

from omegaconf import DictConfig

from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.annotating.silhouettes import grabcut_installed
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
            if browse:
                webbrowser.open(server.address)
            stop.wait()
            server.shutdown()
        session.close()
        log.info("Everything is saved in %s", session.root)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


main = command("annotate")(annotate)

if __name__ == "__main__":
    main()
