"""README and docs: links and anchors lead somewhere; commands, settings, Python and names in them are today's."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pathlib
import re
import shlex
import tomllib
from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import sdfsrn
from sdfsrn.benchmark import _PARTS as BENCHMARK_PARTS
from sdfsrn.benchmarking.configurations import combined
from sdfsrn.benchmarking.workloads import split_variant
from sdfsrn.cli.arguments import changes_of, literal_paths
from sdfsrn.data import Preprocessing
from sdfsrn.runtime.configs import config_folder, flatten

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
CHANGELOG = ROOT / "docs" / "changelog.md"  # where old names may stand
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMANDS = ("train", "evaluate", "reconstruct", "prepare", "tables", "benchmark", "demo", "annotate")
ROOMS = [path.name for path in (ROOT / "src/sdfsrn").iterdir() if (path / "__init__.py").is_file()]
COMPOSED = [  # between them, every setting that a page may name
    *(("train", [f"data={data}", "logger=wandb"]) for data in ("synthetic", "folder", "shapenet", "pascal3d")),
    ("train", ["model/losses=occupancy", "model/raymarcher=sphere_tracer", "scheduler=cosine"]),
    ("train", ["model/encoder=resnet", "model/raymarcher=lstm"]),
    *(("train", [f"model/pose={pose}"]) for pose in ("residual", "candidates")),
    *(("train", [f"model={model}"]) for model in ("dvr_depth", "softras", "cmr")),
    *((name, ["data=folder"] if name == "prepare" else []) for name in COMMANDS[1:]),
]


def ids(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: pathlib.Path, language: str) -> list[str]:
    return [content for kind, content in BLOCK.findall(path.read_text()) if kind == language]


def prose(path: pathlib.Path) -> str:
    return BLOCK.sub("", path.read_text())


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: pathlib.Path) -> list[tuple[str, list[str]]]:
    """The package's commands in a page's bash blocks: their names and arguments."""
    found = []
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s&&\s", line):
                found += _commands(shlex.split(part, comments=True))
    return found


def _commands(words: list[str]) -> list[tuple[str, list[str]]]:
    for i, word in enumerate(words):
        if " -m sdfsrn." in word:  # of sbatch --wrap
            return _commands(shlex.split(word))
        if word == "-m" and i + 1 < len(words) and words[i + 1].startswith("sdfsrn."):
            return [(words[i + 1].removeprefix("sdfsrn."), words[i + 2 :])]
    return []


def overrides(arguments: list[str]) -> list[str]:
    """Arguments as overrides that compose: `...` is any value, and of a sweep the first value is taken."""
    known = [re.sub(r"\$\w+", "1", word.replace("...", "any")) for word in literal_paths(arguments) if word != "-m"]
    parsed = zip(known, OverridesParser.create().parse_overrides(known), strict=True)
    return [f"{o.key_or_group}={next(o.sweep_string_iterator())}" if o.is_sweep_override() else word for word, o in parsed]


@functools.cache
def composed(name: str, *chosen: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(name, list(chosen), return_hydra_config=True)


def check_command(name: str, arguments: list[str]) -> None:
    assert name in COMMANDS
    given = overrides(arguments)
    config = composed(name, *(changes_of("data", given) if name in ("evaluate", "demo") else given))
    if name == "benchmark":
        compared = [config.compare] if isinstance(config.compare, str) else config.compare or ()
        assert config.part in BENCHMARK_PARTS
        assert all(split_variant(name) for name in compared)
        for further in (config.against or {}).values():
            composed(name, *combined(overrides(arguments), further))
    if name == "train":
        chosen = any(word.startswith("experiment=") for word in arguments)
        assert chosen or config.data._target_.endswith("SyntheticDataModule"), "train needs experiment= with this data"


@functools.cache
def settings() -> set[str]:
    """Every dotted key, at all levels, of the commands' configurations."""
    keys: set[str] = set()
    for name, chosen in COMPOSED:
        keys |= set(flatten(OmegaConf.to_container(composed(name, *chosen))))
    return {key.rsplit(".", depth)[0] for key in keys for depth in range(key.count(".") + 1)}


def is_setting(span: str) -> bool:
    """Whether a span that is one override names a config group's file or a key that exists."""
    key, _, value = span.strip("'").lstrip("+~").partition("=")
    if (config_folder() / key).is_dir():
        files = [part for part in re.split(r"[|,]", value.strip("[]")) if re.fullmatch(r"\w+", part) and part.islower()]
        return all((config_folder() / key / f"{file}.yaml").is_file() for file in files)
    return key in settings()


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_and_images_exist(path: pathlib.Path) -> None:
    for link in LINK.findall(prose(path)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert ROOT in target.parents
        if anchor:
            assert anchor in anchors(target), link


def test_readme_is_one_page() -> None:
    text = README.read_text()
    assert len(text.encode()) <= 9000
    assert len(text.splitlines()) <= 200
    assert max(map(len, text.splitlines())) <= 120


def test_every_page_is_linked_from_the_readme_or_from_one_that_is() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        page = waiting.pop()
        files = {(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page)) if "://" not in link}
        new = {file for file in files if file.suffix == ".md" and file not in reached}
        reached |= new
        waiting += new
    assert set(PAGES) <= reached


@pytest.mark.parametrize("path", [page for page in PAGES if page.name != "extending.md"], ids=ids)  # which test_extending runs
def test_commands_compose(path: pathlib.Path) -> None:
    for name, arguments in commands(path):
        try:
            check_command(name, arguments)
        except Exception as error:
            raise AssertionError(f"{name} {' '.join(arguments)}: {error}") from error


def test_the_pages_have_commands() -> None:
    """The parser finds them, also those behind srun, sbatch and &&, and over several lines."""
    found = [(name, arguments) for page in PAGES for name, arguments in commands(page)]
    assert {name for name, _ in found} == set(COMMANDS)
    assert sum("$SLURM_JOB_ID" in " ".join(arguments) for _, arguments in found) == 2
    assert any(arguments[-1:] == ["hydra.run.dir=outputs/train/chairs"] for _, arguments in found)


@pytest.mark.parametrize("old", ["data.outline_rays=0.5", "data.resident=false", "data=folder data.root=x", "seed=0 nothing=1"])
def test_an_old_name_does_not_compose(old: str) -> None:
    with pytest.raises(Exception, match=r"outline_rays|resident|experiment|nothing"):
        check_command("train", old.split())


@pytest.mark.parametrize("path", [page for page in PAGES if page != CHANGELOG], ids=ids)
def test_settings_in_the_text_exist(path: pathlib.Path) -> None:
    for span in SPAN.findall(prose(path)):
        if re.fullmatch(r"'?[+~]?[a-z_]+([./][a-z_]+)*=[^ ]*", span) and not span.endswith(("=True", "=False")):  # Python's
            assert is_setting(span), span
        elif path.name != "python.md" and re.fullmatch(r"(data|model|protocol|trainer|callbacks|logger)(\.[a-z_]+)+", span):
            assert span in settings(), span


def test_renamed_keys_of_the_changelog_exist() -> None:
    """The keys of the changelog's table: the new ones compose, the old ones do not."""
    rows = re.findall(r"^\| `((?:data|model)\.[\w.]+)` \| `([\w.]+)` \|$", CHANGELOG.read_text(), re.MULTILINE)
    assert len(rows) >= 4
    for old, new in rows:
        assert old not in settings()
        assert new in settings()


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_files_and_objects_in_the_text_exist(path: pathlib.Path) -> None:
    for span in SPAN.findall(prose(path)):
        if path != CHANGELOG and re.fullmatch(r"[\w/]+/\w+\.(py|ipynb|yaml)|(tests|configs|docs|src)/[\w/]+", span):
            assert any((folder / span).exists() for folder in (ROOT, ROOT / "src/sdfsrn")), span
        elif re.fullmatch(rf"({'|'.join(ROOMS)})\.\w+\.[\w.]+", span) and span not in settings():
            resolve(f"sdfsrn.{span}")
        elif path != CHANGELOG and re.fullmatch(r"sdfsrn(\.\w+)+", span):
            resolve(span)


def resolve(name: str) -> object:
    """The object of a dotted name; AssertionError if there is none."""
    found: object = importlib.import_module("sdfsrn")
    for i, part in enumerate(name.split(".")[1:], 1):
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(".".join(name.split(".")[: i + 1]))
        assert hasattr(found, part), name
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_python_compiles_and_its_names_exist(path: pathlib.Path) -> None:
    for block in blocks(path, "python"):
        imported = {"sdfsrn": sdfsrn}
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("sdfsrn"):
                module = importlib.import_module(node.module)
                imported |= {alias.name: getattr(module, alias.name) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("sdfsrn."):
                resolve(ast.unparse(node))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] in imported:
                check_call(eval(ast.unparse(node.func), imported), node)


def check_call(function: Callable[..., object], node: ast.Call) -> None:
    """TypeError or AssertionError if the arguments are not the function's, or, of `reconstruct`, those of `Preprocessing`."""
    given = {keyword.arg: None for keyword in node.keywords}
    bound = inspect.signature(function).bind(*node.args, **given)
    assert set(bound.arguments.get("preprocessing") or {}) <= set(inspect.signature(Preprocessing).parameters)


def test_other_commands_exist() -> None:
    """Targets of make and extras of pip that pages name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shell = "\n".join(block for page in PAGES for block in blocks(page, "bash"))
    targets = set(re.findall(r"^make ([\w-]+)", shell, re.MULTILINE))
    assert targets
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
    assert set(re.findall(r"'\.\[(\w+)\]'", shell)) <= set(extras)


def test_the_citation_names_the_paper() -> None:
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    paper = citation["preferred-citation"]
    assert paper.title.startswith("SDF-SRN: Learning Signed Distance 3D Object Reconstruction")
    assert [author["family-names"] for author in paper.authors] == ["Lin", "Wang", "Lucey"]
    assert paper.identifiers[0].value.removeprefix("arXiv:") in sdfsrn.__doc__
