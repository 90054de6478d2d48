"""Kernels compile for an H100, without one: the interpreter takes code that the compiler refuses."""

from __future__ import annotations

from interpreter import interpreted

SCRIPT = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sdfsrn.kernels import backbone, eikonal

INTEGERS = {"stride_b", "stride_n", "stride_c", "points", "tiles", "width", "columns"}
NUMBERS = {"eps", "frequency_scale", "share"}
result = {}
for name, settings in json.load(sys.stdin).items():
    kernel = {"up": backbone._up, "down": backbone._down, "eikonal": eikonal._eikonal}[name]
    types = {"i32": INTEGERS, "fp32": NUMBERS, "constexpr": settings}
    names = kernel.arg_names
    signature = {arg: next((kind for kind, args in types.items() if arg in args), "*fp32") for arg in names}
    source = ASTSource(kernel, signature, {(names.index(arg),): value for arg, value in settings.items()})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8, "num_stages": 1})
    result[name] = compiled.metadata.shared
print(json.dumps(result))
"""


def test_kernels_compile_and_fit_into_shared_memory() -> None:
    """The memory is that of one multiprocessor of an H100. Networks have two layers of 128 channels."""
    settings = {"D": 2, "C": 128, "E": 64, "T": 64, "P": "tf32"}
    found = interpreted(SCRIPT, dict.fromkeys(["up", "down", "eikonal"], settings), interpret=False)
    assert set(found) == {"up", "down", "eikonal"}
    assert max(found.values()) <= 227 * 2**10
