"""The Triton backend where there may be no GPU: in Triton's interpreter, and compiled unrun."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.models.scans import choice, choose, lru_scan, triton_launch, triton_scan

from .test_scan import single, system

CASES = Path(__file__).with_name("triton_cases.py")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
TABLES = ("ends", "lam", "lam_T", "before", "after", "starts", "sums")
KERNELS = {
    "chunk_ends": {"T": 32, "BLOCK": 64, "REVERSE": True},
    "carry": {"BLOCK": 64, "REVERSE": True},
    "apply": {"T": 32, "BLOCK": 64},
    "adjoint": {"T": 32, "BLOCK": 64},
}


def run_cases(tmp_path, cases=CASES, marked=(), **environment):
    """Triton reads its settings when it is imported: the cases need a process of their own."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), **environment}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(cases), *marked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def counts_with_this_numpy():
    """Whether the interpreter can run a loop: before 3.7 it calls int() on arrays, which NumPy 2.4
    refuses. Kernels for a GPU have nothing to do with it."""
    triton, numpy = (
        tuple(map(int, importlib.metadata.version(name).split(".")[:2]))
        for name in ("triton", "numpy")
    )
    return triton >= (3, 7) or numpy < (2, 4)


@needs_triton
def test_cases_in_the_interpreter(tmp_path):
    if not counts_with_this_numpy():
        pytest.skip("this Triton's interpreter cannot run loops with this NumPy")
    run_cases(tmp_path, TRITON_INTERPRET="1")


@needs_triton
@needs_gpu
def test_cases_on_the_gpu(tmp_path):
    run_cases(tmp_path, TRITON_INTERPRET="0")


@needs_triton
@pytest.mark.parametrize("ones", [(), ("steps", "chunks", "N")], ids=["", "sizes of 1"])
@pytest.mark.parametrize("planes", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_compiles_for_a_gpu_that_is_not_here(kernel, planes, ones, tmp_path, monkeypatch):
    """To machine code of an H100 or H200, with no state spilled from registers to memory.

    Triton makes constants of arguments that are 1, which type-checks another way.
    """
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from harness.models.scans import triton_kernels

    function = getattr(triton_kernels, kernel)
    constants = KERNELS[kernel] | {name: 1 for name in ones if name in function.arg_names}
    types = {"planes": f"*{planes}", "states": f"*{planes}", **dict.fromkeys(TABLES, "*fp32")}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in function.arg_names
    }
    places = {(function.arg_names.index(name),): value for name, value in constants.items()}
    built = compile(
        ASTSource(function, signature, places),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 2},
    )
    assert built.asm["cubin"]
    assert ".local" not in built.asm["ptx"]


def test_refusals_name_their_reason(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert triton_scan.unavailable("cuda") == "triton is not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton_scan.unavailable("cuda") == "no CUDA GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert triton_scan.unavailable("cpu") == "it needs a CUDA GPU, not the cpu"
    assert triton_scan.unavailable("cuda:1") is None


SHAPE = {"width": 512, "state_dim": 384, "length": 1024, "batch": 50}


def test_asked_for_by_name_it_says_why_not(monkeypatch):
    monkeypatch.setattr(choice, "triton_refusal", lambda device: "no CUDA GPU")
    with pytest.raises(ValueError, match="no CUDA GPU"):
        lru_scan(*single(*system(2, 2, 0.9, 3)), backend="triton")


def test_auto_takes_it_on_a_gpu_and_says_why_not(monkeypatch):
    monkeypatch.setattr(choice, "triton_refusal", lambda device: None)
    narrow = {**SHAPE, "width": 8}
    assert choose("auto", device="cuda", **SHAPE).name == "triton"
    assert choose("auto", device="cuda", **narrow).name == "triton"
    assert choose("auto", device="cpu", **SHAPE).name == "scan"
    assert choose("auto", device="cpu", **narrow).name == "toeplitz"
    monkeypatch.setattr(choice, "triton_refusal", lambda device: "triton is not installed")
    chosen = choose("auto", device="cuda", **SHAPE)
    assert chosen.name == "scan"
    assert "triton is not installed" in chosen.reason
    chosen = choose("auto", device="cuda", **narrow)
    assert chosen.name == "toeplitz"
    assert "triton is not installed" in chosen.reason


@pytest.mark.parametrize(("batch", "length", "T"), [(7, 10, 16), (2, 70, 16), (3, 32, 16)])
def test_pieces_cover_rows_and_chunks_once(batch, length, T, monkeypatch):
    monkeypatch.setattr(triton_launch, "PIECE_ROWS", 32)
    pieces = triton_launch.cut(batch, length, T)
    rows = [r for p in pieces for r in range(p.rows.start, p.rows.stop)]
    chunks = [c for p in pieces for c in range(p.chunks.start, p.chunks.stop)]
    assert rows == list(range(batch * length))
    assert chunks == list(range(batch * -(-length // T)))
    assert all(p.sequences * p.steps == p.rows.stop - p.rows.start <= 32 for p in pieces)
    assert sum(p.sequences for p in pieces if p.opens) == batch
    assert sum(p.sequences for p in pieces if p.closes) == batch
    assert all(p.closes or p.steps % T == 0 for p in pieces)


def test_states_are_kept_while_they_are_small():
    assert triton_scan.keeps_states("auto", 157_286_400)  # sCIFAR at batch 50
    assert not triton_scan.keeps_states("auto", 2**31)
    assert triton_scan.keeps_states("states", 2**31)
    assert not triton_scan.keeps_states("boundaries", 1)
