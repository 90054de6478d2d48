"""Trains in processes that are killed at random moments, then to the end: python killing.py FOLDER KILLS SEED OVERRIDE...

Every second kill comes in the middle of a checkpoint's writing, the others a random time after one. Writes a line a kill.
"""

from __future__ import annotations

import io
import os
import pathlib
import random
import signal
import sys
import time

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn.runtime.configs import config_folder
from sdfsrn.train import train

LONGEST = 240.0  # seconds that a process may take


def main(folder: pathlib.Path, kills: int, seed: int, overrides: list[str]) -> None:
    rng = random.Random(seed)
    for kill in range(kills):
        in_write = kill % 2 == 1
        child = begin(folder, overrides, rng.randrange(1, 3) if in_write else None)
        status = wait(child, LONGEST) if in_write else kill_after(child, folder, rng.randrange(2), rng.uniform(0, 0.5))
        partial = len(list(folder.glob("checkpoints/.*.tmp")))
        moment = "killed in a write" if in_write else "killed at another moment"
        sys.stdout.write(f"{moment if status else 'finished'}, {partial} partial files\n")
    if wait(begin(folder, overrides, None), LONGEST):
        sys.exit("the last process failed")


def begin(folder: pathlib.Path, overrides: list[str], writes: int | None) -> int:
    """A child, forked so that nothing is imported again, that trains; killed in that many-th checkpoint's writing."""
    child = os.fork()
    if child:
        return child
    os.setpgrp()
    with (folder.parent / "output.txt").open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if writes is not None:
        torch.save = dying_save(writes)
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = compose("train", overrides)
        OmegaConf.resolve(config)
        train(config)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def dying_save(writes: int):
    save, count = torch.save, iter(range(1, 10**6))

    def half(content: object, file) -> None:
        if next(count) < writes or not hasattr(file, "fileno"):
            save(content, file)
            return
        stream = io.BytesIO()
        save(content, stream)
        file.write(stream.getvalue()[: len(stream.getvalue()) // 2])
        file.flush()
        os.killpg(0, signal.SIGKILL)

    return half


def kill_after(child: int, folder: pathlib.Path, writes: int, seconds: float) -> int:
    """The exit status of a child that is killed some time after it has written so many checkpoints."""
    path, seen = folder / "checkpoints" / "last.ckpt", set()
    start = path.stat().st_mtime_ns if path.is_file() else 0
    deadline = time.monotonic() + LONGEST
    while len(seen) < writes and time.monotonic() < deadline:
        if path.is_file() and path.stat().st_mtime_ns > start:
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)
    return wait(child, seconds)


def wait(child: int, seconds: float) -> int:
    """The exit status of a child, which is killed, with its workers, when the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
