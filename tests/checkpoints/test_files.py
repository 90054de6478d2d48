from __future__ import annotations

import os
import pathlib
import pickle
import re
import resource
from typing import Any

import numpy as np
import pytest
import torch

from sdfsrn.checkpoints.files import AtomicCheckpointIO, check_trusted, find_checkpoint
from sdfsrn.checkpoints.loading import load, read_checkpoint
from sdfsrn.runtime.files import read_npz

TRUSTED = ("sdfsrn",)


def checkpoint(path: pathlib.Path, **config: Any) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {}, "config": config}, path)
    return path


class TestFinding:
    def test_a_path_is_itself(self, tmp_path: pathlib.Path) -> None:
        assert find_checkpoint("some/file.ckpt", tmp_path) == "some/file.ckpt"

    def test_the_newest_of_runs_and_of_jobs_of_sweeps(self, tmp_path: pathlib.Path) -> None:
        old = checkpoint(tmp_path / "train/1/checkpoints/last.ckpt")
        new = checkpoint(tmp_path / "train-sweeps/2/0/checkpoints/last.ckpt")
        checkpoint(tmp_path / "train/3/checkpoints/best.ckpt")
        os.utime(old, (1, 1))
        assert find_checkpoint("last", tmp_path) == str(new)
        os.utime(new, (0, 0))
        assert find_checkpoint("last", tmp_path) == str(old)

    def test_trials_of_a_study_are_a_folder_deeper(self, tmp_path: pathlib.Path) -> None:
        trial = checkpoint(tmp_path / "train-sweeps/2/from_0/3/checkpoints/last.ckpt")
        assert find_checkpoint("last", tmp_path) == str(trial)

    def test_this_run_s_own_before_newer_ones(self, tmp_path: pathlib.Path) -> None:
        own = checkpoint(tmp_path / "train/1/checkpoints/best.ckpt")
        checkpoint(tmp_path / "train/2/checkpoints/best.ckpt")
        os.utime(own, (1, 1))
        assert find_checkpoint("best", tmp_path, tmp_path / "train/1") == str(own)

    def test_none(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(ValueError, match=f"found none in {tmp_path}"):
            find_checkpoint("last", tmp_path)


class TestWriting:
    def test_what_is_written_is_read(self, tmp_path: pathlib.Path) -> None:
        AtomicCheckpointIO().save_checkpoint({"a": torch.arange(3)}, tmp_path / "new/folder/x.ckpt")
        assert torch.equal(torch.load(tmp_path / "new/folder/x.ckpt", weights_only=True)["a"], torch.arange(3))

    @pytest.mark.parametrize("limit", [1000, 200_000])
    def test_a_full_disk_leaves_the_checkpoint_before(self, limit: int, tmp_path: pathlib.Path) -> None:
        """A real one, for this process: the system lets no file grow beyond the limit."""
        path = tmp_path / "last.ckpt"
        AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match=r"Could not write a checkpoint to .*last.ckpt: File too large; .* is intact"):
                AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(1_000_000)}, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert torch.load(path, weights_only=True) == {"step": 1}
        assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]

    def test_a_folder_that_cannot_be(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=r"Could not write a checkpoint to .*: (Not a directory|File exists)"):
            AtomicCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")


class TestTrust:
    """What a file from elsewhere may say; the first two would have run a program before classes were looked at."""

    @pytest.mark.parametrize(
        "config",
        [
            {"_target_": "sdfsrn.train.subprocess.run", "args": ["touch", "MARK"]},
            {"encoder": {"_target_": "sdfsrn.cli.command.os.system", "command": "touch MARK"}},
            {"_target_": "os.system", "command": "touch MARK"},
            {"a": [{"_target_": "sdfsrn.runtime.files.write_atomically", "path": "MARK", "content": "x"}]},
            {"_target_": "sdfsrn.checkpoints.files.torch.nn.Linear"},
            {"_target_": "sdfsrn.no_such_thing"},
            {"_target_": "sdfsrnx.SDFSRN"},
            {"a": {"b": ["${oc.env:HOME}"]}},
        ],
    )
    @pytest.mark.parametrize("part", ["model", "data", "protocol", "preprocessing"])
    def test_anything_but_our_classes_is_refused(
        self, config: dict, part: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        file = checkpoint(tmp_path / "x.ckpt", **{part: config})
        with pytest.raises(ValueError, match=f"{file} (names|holds) .*: not loaded"):
            load(file)
        assert not (tmp_path / "MARK").exists()

    def test_ours_and_trusted_ones_are_not(self) -> None:
        check_trusted({"_target_": "sdfsrn.SDFSRN", "a": [{"_target_": "sdfsrn.EvaluationProtocol"}]}, "x", TRUSTED)
        check_trusted({"_target_": "torch.nn.Linear"}, "x", (*TRUSTED, "torch"))
        with pytest.raises(ValueError, match=r"names torch\.nn\.Linear, no class of this package"):
            check_trusted({"_target_": "torch.nn.Linear"}, "x", TRUSTED)

    @pytest.mark.parametrize("kind", ["checkpoint", "npz"])
    def test_pickles_are_refused(self, kind: str, tmp_path: pathlib.Path) -> None:
        mark = tmp_path / "mark"

        class Trap:
            def __reduce__(self) -> tuple:
                return pathlib.Path.touch, (mark,)

        path = tmp_path / "file"
        if kind == "npz":
            np.savez(path, points=np.array([Trap()], dtype=object))
            with pytest.raises(ValueError, match="Could not read points"):
                read_npz(tmp_path / "file.npz", ["points"])
        else:
            path.write_bytes(pickle.dumps({"state_dict": Trap(), "config": {}}))
            with pytest.raises(ValueError, match="Could not read a checkpoint"):
                read_checkpoint(path)
            torch.save({"state_dict": Trap(), "config": {}}, path)
            with pytest.raises(ValueError, match="Could not read a checkpoint"):
                read_checkpoint(path)
        assert not mark.exists()

    def test_every_loading_function_refuses_pickles(self) -> None:
        """No call in the package that could unpickle leaves the default of an old library in place."""
        source = pathlib.Path(__file__).parents[2] / "src"
        calls = re.compile(r"torch\.load\(|np\.load\(|pickle\.loads?\(")
        lines = [line for file in source.rglob("*.py") for line in file.read_text().splitlines() if calls.search(line)]
        assert len(lines) >= 4
        assert [line for line in lines if "weights_only=True" not in line and "allow_pickle=False" not in line] == []
