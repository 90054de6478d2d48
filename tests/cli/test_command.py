from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from sdfsrn import train as train_command
from sdfsrn.checkpoints.loading import load, read_checkpoint
from sdfsrn.cli.command import command, show_config, user_message
from sdfsrn.runtime.configs import config_folder, instantiate


class Payload:
    """Pickles to a call that leaves a trace."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return pathlib.Path.touch, (self.path,)


def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": {}, "config": Payload(trace)}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"bad\.ckpt"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize("part", ["model", "data"])
def test_classes_from_elsewhere_are_not_built(part: str, tmp_path: pathlib.Path) -> None:
    config = {"model": {"encoder": {}}, "data": {}} | {part: {"encoder": {"_target_": "os.system", "command": "true"}}}
    torch.save({"state_dict": {}, "config": config}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"os\.system.*not loaded"):
        load(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("config", [{}, {"model": None}, {"model": {"_target_": "sdfsrn.metrics.protocol.EvaluationProtocol"}}])
def test_a_checkpoint_without_a_model_is_named(config: dict[str, Any], tmp_path: pathlib.Path) -> None:
    torch.save({"state_dict": {}, "config": config}, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt, which has none"):
        load(tmp_path / "odd.ckpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"graph": {}}, "authors_checkpoint"),
        ({"state_dict": {}}, "sdfsrn.train"),
        ({"state_dict": {}, "config": []}, "sdfsrn.train"),
        ([1, 2], "sdfsrn.train"),
        (None, "Could not read"),
    ],
)
def test_other_files_are_named(content: object, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "other.ckpt"
    if content is None:
        path.write_bytes(b"not a checkpoint")
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("place", ["file", "device"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_done(
    mode: list[str], place: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, also where Hydra would be the first to write; /proc is as good as read-only, to root as well."""
    (tmp_path / "file").write_text("")
    folder = {"file": f"{tmp_path}/file/run", "device": "/proc/run"}[place]
    key = "hydra.sweep.dir" if mode else "hydra.run.dir"
    monkeypatch.setattr(sys, "argv", ["train", *mode, f"{key}={folder}"])
    done: list[object] = []
    with pytest.raises(SystemExit) as end:
        command("train")(done.append)()
    assert str(end.value.code).startswith(f"error: Could not write to the folder {key}={folder}: ")
    assert not done


@pytest.mark.parametrize(("name", "given"), [("train", []), ("tables", ["table=3"])])
def test_a_launcher_without_a_sweep_is_not_passed_over(
    name: str, given: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "launcher=joblib", f"hydra.run.dir={tmp_path}", *given])
    done: list[object] = []
    with pytest.raises(SystemExit) as end:
        command(name)(done.append)()
    assert str(end.value.code).startswith("error: Expected -m with launcher=joblib")
    assert not done


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (["data=folder", "data.root=x"], True),
        (["data=folder", "data.root=x", "~experiment"], False),
        (["data=folder", "data.root=x", "experiment=quickstart"], False),
        (["experiment=folder", "data.root=x"], False),
        (["data=synthetic"], False),
        ([], False),
    ],
)
def test_other_data_is_not_trained_with_the_quickstarts_networks_by_accident(
    given: list[str], refused: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", f"hydra.run.dir={tmp_path}", *given])

    def stop(*given: object) -> None:
        raise ValueError("training begins")

    monkeypatch.setattr(train_command, "_start", stop)
    with pytest.raises(SystemExit) as end:
        train_command.main()
    if refused:
        assert str(end.value.code).startswith("error: Expected experiment=... with data=folder: one of ")
        assert "shapenet_chair" in str(end.value.code)
    else:
        assert end.value.code == "error: training begins"


def check_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    """What Python 3.14 does when an argument is added."""
    if action.help and "%" in action.help:
        raise ValueError("badly formed help string")


def test_hydras_help_is_taken_by_any_python(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `--shell-completion` has help that is made when it is shown, which Python 3.14 refuses."""
    if sys.version_info < (3, 14):
        add = argparse.ArgumentParser.add_argument

        def add_and_check(parser: argparse.ArgumentParser, *given: Any, **options: Any) -> argparse.Action:
            action = add(parser, *given, **options)
            parser._check_help(action)
            return action

        monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
        monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_and_check)
    monkeypatch.setattr(sys, "argv", ["train", f"hydra.run.dir={tmp_path}"])
    with pytest.raises((TypeError, ValueError)):
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="train")(print)()
    done: list[object] = []
    command("train")(done.append)()
    assert len(done) == 1
    with pytest.raises((TypeError, ValueError)):  # as before
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="train")(print)()


def test_the_configuration_is_a_line_unless_it_is_asked_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, shown in (([], False), (["print_config=true"], True)):
        monkeypatch.setattr(sys, "argv", ["train", f"hydra.run.dir={tmp_path}", *given])
        command("train")(show_config)()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].endswith(f"Configuration: {tmp_path}/.hydra/config.yaml")
        assert (tmp_path / ".hydra" / "config.yaml").is_file()
        assert any("max_steps: 1500" in line for line in lines) == shown
        assert (len(lines) > 1) == shown


@pytest.mark.parametrize("key", ["data.root", "data"])
def test_what_has_to_be_given_is_named(key: str) -> None:
    config = OmegaConf.create({"data": {"_target_": "builtins.dict", "root": "???"}})
    with pytest.raises(Exception, match="Missing mandatory value") as error:
        instantiate(config.data) if key == "data" else OmegaConf.select(config, key, throw_on_missing=True)
    assert user_message(error.value) == "Expected data.root=..., which has no default."
