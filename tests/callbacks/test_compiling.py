from __future__ import annotations

import pathlib
import shutil
import types
from typing import Any

import pytest
import torch

from sdfsrn import build
from sdfsrn.callbacks import CompileTerms
from tiny import MODEL, PICTURES

SHORT = ["trainer=cpu", "compile=inductor", "data.num_objects=2", "data.num_eval_objects=2", "data.shapes.views_per_object=8"]


def test_terms_are_compiled_for_the_training_only(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiled terms compute is the subject of tests/losses/test_compiled.py."""
    compiled: list[tuple[torch.nn.Module, dict[str, Any]]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    model, _, trainer = build("quickstart", *PICTURES, *MODEL, *SHORT, f"paths.output={tmp_path}")
    (callback,) = (each for each in trainer.callbacks if isinstance(each, CompileTerms))
    callback.on_fit_start(trainer, model)
    terms = list(model.losses.terms.values())
    assert [term for term, _ in compiled] == terms
    assert all(options == {"backend": "inductor", "dynamic": False} for _, options in compiled)
    assert torch._inductor.config.fallback_random
    for term in terms:
        term._compiled_call_impl = term.forward
    callback.teardown(trainer, model, "fit")
    assert all(term._compiled_call_impl is None for term in terms)
    assert not torch._inductor.config.fallback_random


def test_a_missing_compiler_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model, _, _ = build("quickstart", *PICTURES, *MODEL, *SHORT, f"paths.output={tmp_path}")
    trainer = types.SimpleNamespace(strategy=types.SimpleNamespace(root_device=torch.device("cpu")))
    with pytest.raises(ValueError, match=r"C\+\+ compiler .* compile=none"):
        CompileTerms().on_fit_start(trainer, model)
