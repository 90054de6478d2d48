"""Paths of users' files on the command line, through Hydra and back."""

from __future__ import annotations

import os
import pathlib

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sdfsrn.cli.arguments import literal_paths
from sdfsrn.runtime.configs import config_folder

NAMES = [
    *("Stühle.png", "椅子.png", "chair#1.png", "it's.png", "a&b.png", "IMG_0412 (1).png", "lr=1e-4.png", "[old] chair.png"),
    *("a{b}.png", "a,b.png", "[old]", "{a}.png", 'say "hi".png', "back\\slash.png", "ends with \\", "a: b.png", "$HOME.png"),
    *(
        "2024",
        "1e5",
        "True",
        "50%.png",
        "a;b.png",
        "a|b?.png",
        "new\u2028line.png",
        "ключ.png",
        "~a.png",
        "!.png",
        "'quoted.png",
    ),
    *(" a.png ", "'", "../seed=1,lr=0.0001/epoch=3-step=100.ckpt", "a\tb.png", "`a`.png", "<a>.png", "@a.png", "e\u0301.png"),
]


def composed(command: str, *overrides: str) -> object:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, literal_paths(overrides))


@pytest.mark.parametrize("name", NAMES)
def test_a_path_means_itself(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is such a file or not; not yet, as of a folder for results."""
    monkeypatch.chdir(tmp_path)
    found = composed("prepare", "data=folder", f"data.root={name}", f"export=x/{name}", f"paths.output={name}")
    assert (found.data.root, found.export, found.paths.output) == (name, f"x/{name}", name)


@pytest.mark.parametrize("name", ["[old]", "[a.png,b.png]", "{a: 1}"])
def test_a_file_that_exists_wins_over_hydras_lists(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path(name).write_text("")
    assert composed("reconstruct", f"image={name}").image == name


def test_what_hydra_means_by_a_value_stays(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = composed(
        "reconstruct",
        "image=[a (1).png, b.png,'c,d.png',Stühle.png]",
        'mask="IMG (1).png"',
        "ckpt_path=null",
        "paths.output=${paths.root}/a,b (1)",
        "paths.root='o u t'",
    )
    assert OmegaConf.to_container(found.image) == ["a (1).png", "b.png", "c,d.png", "Stühle.png"]
    assert (found.mask, found.ckpt_path, found.paths.output) == ("IMG (1).png", None, "o u t/a,b (1)")
    assert composed("evaluate", "protocol.rotation=[1,0,0,0,1,0,0,0,-1]").protocol.rotation == [1, 0, 0, 0, 1, 0, 0, 0, -1]
    assert composed("reconstruct", "image=[]").image == []


def test_sweeps_keep_their_alternatives(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a,b.png").write_text("")
    given = ["-m", "image=a (1).png,b.png,'c,d.png'", "mask=a,b.png", "ckpt_path=choice(a,b)", "seed=1,2"]
    wanted = ["-m", "image='a (1).png',b.png,'c,d.png'", "mask='a,b.png'", "ckpt_path=choice(a,b)", "seed=1,2"]
    assert literal_paths(given) == wanted
    assert literal_paths(wanted) == wanted  # in processes that are started with the same arguments


def test_home_is_expanded_and_other_keys_are_left_alone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    found = composed("prepare", "data=folder", "data.root=~/shots (1)", "export=~nobody9/x", "paths.cache=~/c")
    home = os.environ["HOME"]
    assert (found.data.root, found.export, found.paths.cache) == (f"{home}/shots (1)", "~nobody9/x", f"{home}/c")
    others = ["experiment=folder", "~data.category", "seed=3", "--config-dir=my (1)", "model.losses.weights={a: 1}", "image"]
    assert literal_paths(others) == others
