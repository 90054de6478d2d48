"""Files: errors of reading name the file, writing leaves a whole file or none, keys of caches."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@contextlib.contextmanager
def reading(path: str | pathlib.Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file from outside is read into a ValueError of one line that names the file.

    Parsers raise nearly any exception on broken content, MemoryError and RecursionError among them.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"Could not read {what} from {path}: {reason(error)}.") from error


def reason(error: BaseException) -> str:
    """What an exception says, in at most 300 characters of one line; its class if it says nothing."""
    text = " ".join(str(error).split()).rstrip(".")
    text = f"{type(error).__name__}: {text}" if isinstance(error, LookupError | RecursionError | MemoryError) else text
    return (text or type(error).__name__)[:300]


def read_npz(path: pathlib.Path, names: list[str]) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file; pickled objects are refused.

    Raises:
        ValueError: no such file, no such array, or not an .npz file.
    """
    with reading(path, ", ".join(names)), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names}


def check_points(points: np.ndarray, path: pathlib.Path, name: str = "points") -> None:
    """Raise ValueError, naming the file, unless `points` are finite numbers of shape (n, 3), n > 0."""
    numbers = points.dtype.kind in "iuf"
    if not numbers or points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"Expected finite {name} of shape (n, 3), n > 0, got shape {points.shape} in {path}.")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path`, in a folder that exists; what was written there then replaces `path` at once.

    After an exception, or a crash at any moment, `path` is what it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file by `replacing` it: readers find the whole content or what was there before.

    Raises:
        OSError: it could not be written, for want of space or rights; what was at `path` before is still there.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise OSError(f"Could not write {path}: {error.strerror or error}.") from error


def check_cache(folder: pathlib.Path) -> None:
    """Raise OSError unless a cache's folder, which is made, can be written: before the work whose result it is to keep."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"Could not write to the cache {folder}: {error.strerror}. Set the variable SDFSRN_CACHE, or paths.cache=, to a "
            "folder that can be written."
        ) from error


def remove_partial(folder: pathlib.Path) -> None:
    """Delete what a process killed while `replacing` left anywhere under a folder."""
    for path in folder.rglob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


def png_bytes(image: np.ndarray, **notes: str) -> bytes:
    """A uint8 picture, (h, w) or (h, w, 3 or 4), as PNG; `notes` become its text chunks."""
    info = PngInfo()
    for key, text in notes.items():
        info.add_text(key, text)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """Arrays as an .npz file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes `allow_pickle` for one of them
    return stream.getvalue()


def cache_folder() -> pathlib.Path:
    """The folder of generated data, as in `configs/paths`: SDFSRN_CACHE in the environment, by default ~/.cache/sdfsrn."""
    return pathlib.Path(os.environ.get("SDFSRN_CACHE") or pathlib.Path.home() / ".cache" / "sdfsrn")


def cache_key(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of content that JSON can hold.

    >>> cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
