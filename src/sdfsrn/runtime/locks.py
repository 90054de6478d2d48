"""Locks of files that end with their process, even one that is killed."""

from __future__ import annotations

import fcntl
import os
import pathlib

_held: dict[pathlib.Path, int] = {}  # descriptors of this process's locks


def try_lock(path: pathlib.Path) -> bool:
    """Whether this process has the lock of a file now: it had it, or nobody else has. It keeps it as long as it lives.

    The file is made, in a folder that exists. On file systems without locks everybody gets them.

    Raises:
        OSError: the file cannot be made.
    """
    path = path.resolve()
    if path in _held:
        return True
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        pass
    _held[path] = descriptor
    return True


def _forget() -> None:
    """Close the descriptors in a forked process, which would keep the locks after its parent's death."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
