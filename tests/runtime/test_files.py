from __future__ import annotations

import pathlib

import pytest

from sdfsrn.runtime.files import remove_partial, replacing, write_atomically


def test_what_cannot_be_written_is_named_and_leaves_what_was_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "result.json"
    write_atomically(path, b"before")

    def full(temporary: pathlib.Path, content: bytes) -> None:
        with temporary.open("wb") as file:
            file.write(content[:2])
        with pathlib.Path("/dev/full").open("wb") as file:
            file.write(content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match=f"Could not write {path}: No space left on device"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_a_folder_that_cannot_be_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Could not write .*/file/result.json: (Not a directory|File exists)"):
        write_atomically(tmp_path / "file" / "result.json", b"")


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_only_what_a_killed_process_left_is_removed(tmp_path: pathlib.Path) -> None:
    for name in ("a/.x.npz.7.tmp", "a/x.npz", "x.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"x.npz", "x.tmp"}
