"""The page's server: on this computer only, for whoever knows the token of its address."""

from __future__ import annotations

import hmac
import http.server
import json
import logging
import pathlib
import re
import secrets
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

from sdfsrn.annotating.folder import jpeg_bytes, thumbnail
from sdfsrn.annotating.session import Session
from sdfsrn.annotating.storage import quick_png

PAGE = pathlib.Path(__file__).with_name("page")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
LARGEST = 2**20  # bytes of a request
RULES = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What goes back."""

    content: bytes
    kind: str = "application/json"
    status: int = HTTPStatus.OK
    tag: str | None = None  # of content that a browser may keep, as long as the server says that it is the same


class Refusal(Exception):
    """A request that is not answered; the text is one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server(http.server.ThreadingHTTPServer):
    """Serves a session on a port of the loopback.

    Args:
        session: what is served.
        port: 0 takes a free one.
        token: None makes a new one.

    Raises:
        ValueError: a port that is taken.
    """

    daemon_threads = True
    request_queue_size = 64  # a browser opens several connections at once

    def __init__(self, session: Session, port: int = 0, token: str | None = None) -> None:
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"Could not open port {port}: {error}.") from error
        self.session = session
        self.token = token or secrets.token_urlsafe(24)
        self.cookie = f"sdfsrn-{self.server_port}"  # cookies of one host are shared by its ports
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a browser leaves in the middle of an answer."""
        log.debug("A connection ended early.", exc_info=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sdfsrn", ""
    disable_nagle_algorithm = True  # answers are small and awaited
    timeout = 300

    def do_GET(self) -> None:
        """Answer a request that changes nothing."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """Answer an edit."""
        self._respond(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests for debugging only, without the token."""
        log.debug("%s", re.sub(r"token=[\w-]+", "token=...", format % args))

    def _respond(self, answer: Callable[[urllib.parse.SplitResult], Answer]) -> None:
        try:
            url = urllib.parse.urlsplit(self.path)
            known = self._check(url)
            reply = answer(url)
        except Refusal as refusal:
            known, reply = False, _error(refusal.status, str(refusal))
            self.close_connection = True  # a body may be left unread
        except ValueError as error:
            reply = _error(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            reply = _error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except Exception as error:
            log.exception("A request failed: %s", self.path.partition("?")[0])
            reply = _error(HTTPStatus.INTERNAL_SERVER_ERROR, f"The server failed: {type(error).__name__}.")
        self.send_response(reply.status)
        headers = {"Content-Type": reply.kind, "Content-Length": str(len(reply.content)), **RULES}
        headers["Cache-Control"] = "no-store" if reply.tag is None else "private, no-cache"
        if reply.tag is not None:
            headers["ETag"] = reply.tag
        if known:
            headers["Set-Cookie"] = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.content)

    def _check(self, url: urllib.parse.SplitResult) -> bool:
        """Refuse other hosts, other sites and requests without the token; whether the address has the token."""
        if self.headers.get("Host") not in self.server.hosts:
            raise Refusal(HTTPStatus.FORBIDDEN, "Expected the address that the command printed.")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise Refusal(HTTPStatus.FORBIDDEN, "Expected a request of the page itself.")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            cookie = None
        by_address = self._is_token(urllib.parse.parse_qs(url.query).get("token", [""])[0])
        by_header = self._is_token(self.headers.get("X-Token", ""))
        if self.command == "POST" and not by_header:
            raise Refusal(HTTPStatus.FORBIDDEN, "Expected the token in X-Token.")
        if not (by_address or by_header or (cookie and self._is_token(cookie.value))):
            raise Refusal(HTTPStatus.FORBIDDEN, "Expected the token of the address that the command printed.")
        return by_address

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.server.token.encode())

    def _get(self, url: urllib.parse.SplitResult) -> Answer:
        session = self.server.session
        if url.path == "/":
            return _page_file("index.html")
        if url.path.startswith("/page/"):
            return _page_file(url.path.removeprefix("/page/"))
        if url.path == "/api/state":
            return _json(session.state())
        if url.path == "/api/review":
            return _json(session.review())
        index, what = self._picture(url.path)
        folder = session.annotations
        if what is None:
            return _json(session.draft(index))
        makers: dict[str, tuple[str, Callable[[], bytes]]] = {
            "image": ("image/jpeg", lambda: jpeg_bytes(folder.image(index))),
            "thumbnail": ("image/jpeg", lambda: thumbnail(folder.root, folder.photos[index])),
            "mask": ("image/png", lambda: quick_png(folder.layers(index).mask)),
        }
        if what in makers:
            kind, make = makers[what]
            tag = f'"{folder.version(index, what)}"'
            known = self.headers.get("If-None-Match") == tag
            return Answer(b"" if known else make(), kind, HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK, tag)
        shape = session.shape(index) if what == "shape" else None
        if shape is not None:
            return _json(shape)
        raise Refusal(HTTPStatus.NOT_FOUND, f"There is no {what} of this picture.")

    def _post(self, url: urllib.parse.SplitResult) -> Answer:
        index, what = self._picture(url.path)
        if what != "edits":
            raise Refusal(HTTPStatus.NOT_FOUND, f"There is nothing to post at {url.path}.")
        return _json(self.server.session.edit(index, self._body()))

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "Expected a Content-Length.")
        if int(length) > LARGEST:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected at most {LARGEST} bytes, got {length}.")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Expected JSON, got something else ({error}).") from error
        if not isinstance(body, dict):
            raise ValueError(f"Expected an object, got {type(body).__name__}.")
        return body

    def _picture(self, path: str) -> tuple[int, str | None]:
        """The number in /api/pictures/NUMBER or /api/pictures/NUMBER/WHAT, and what."""
        found = re.fullmatch(r"/api/pictures/([0-9]{1,9})(?:/([a-z]+))?", path)
        if found is None or int(found[1]) >= len(self.server.session.annotations.photos):
            raise Refusal(HTTPStatus.NOT_FOUND, f"There is nothing at {path[:100]}.")
        return int(found[1]), found[2]


def _page_file(name: str) -> Answer:
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}
    if name not in files:
        raise Refusal(HTTPStatus.NOT_FOUND, f"The page has no file {name[:100]}.")
    kind = KINDS[files[name].suffix]
    return Answer(files[name].read_bytes(), kind if kind.startswith("image") else f"{kind}; charset=utf-8")


def _json(content: Any, status: int = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(content).encode(), status=status)


def _error(status: int, text: str) -> Answer:
    return _json({"error": " ".join(text.split())}, status)
