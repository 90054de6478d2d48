"""python -m sdfsrn.annotate data.root=...: a page that gives a folder of photos silhouettes and poses."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import webbrowser

import torch
from omegaconf import DictConfig

from sdfsrn.annotating.advice import propose
from sdfsrn.annotating.annotations import Annotations
from sdfsrn.annotating.grabcut import grabcut_installed
from sdfsrn.annotating.opinions import Expert
from sdfsrn.annotating.server import Server
from sdfsrn.annotating.session import Session
from sdfsrn.cli.command import command
from sdfsrn.cli.loading import load_model

log = logging.getLogger(__name__)


def annotate(config: DictConfig) -> None:
    """Serve the page as configured, until interrupted; with `propose`, write proposed poses instead.

    Raises:
        ValueError: a folder without pictures, or one that cannot be used; a port that is taken; no such checkpoint.
    """
    given = config.ckpt_path is not None or config.authors_checkpoint is not None
    if config.propose and not given:
        raise ValueError("Expected ckpt_path=FILE with propose=true: poses are proposed by a model.")
    expert = Expert(load_model(config)) if given else None
    where = (config.data.root, config.data.crop, config.data.convention)
    if config.propose and expert is not None:
        _propose(Annotations(*where), expert)
        return
    if not grabcut_installed():
        log.info("Without OpenCV there are brush and polygon only: pip install 'sdfsrn[annotate]' adds GrabCut.")
    if expert is not None:  # threads that wait for a core which the browser has take ages
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    serve(Session(*where, expert), config.port, config.open)


def serve(session: Session, port: int | None, browse: bool) -> None:
    """Serve a session until SIGINT or SIGTERM; every edit is saved by then.

    Raises:
        ValueError: a port that is taken.
    """
    stop = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _open_server(session, port) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            log.info("The page is at %s (stop it with Ctrl-C)", server.address)
            if browse and _has_screen():
                webbrowser.open(server.address)
            stop.wait()
            server.shutdown()
        session.close()
        log.info("Everything is saved in %s", session.annotations.root)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _open_server(session: Session, port: int | None) -> Server:
    """A server at the address of the last one on the folder, if that is free and no other port is wanted."""
    storage, names = session.annotations.storage, [photo.name for photo in session.annotations.photos]
    last, token = storage.address(names)
    try:
        server = Server(session, last if port is None else port, token)
    except ValueError:
        if port is not None or last == 0:
            raise
        server = Server(session, 0, token)
    storage.keep_address(names, server.server_port, server.token)
    return server


def _propose(annotations: Annotations, expert: Expert) -> None:
    try:
        report = propose(annotations, expert)
    finally:
        annotations.close()
    for name, reason in [*report["unsure"].items(), *report["failed"].items()]:
        log.info("Look at %s: %s", name, reason)
    log.info(
        "Wrote poses of %d pictures to %s, of which %d are flagged unsure; %d failed, %d have no mask yet",
        report["proposed"],
        annotations.root,
        len(report["unsure"]),
        len(report["failed"]),
        report["left"],
    )


def _has_screen() -> bool:
    """Whether a browser would get a window, rather than this terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


main = command("annotate")(annotate)

if __name__ == "__main__":
    main()
