"""Mamba's Triton backend where there may be no GPU: in Triton's interpreter, and compiled unrun."""

from pathlib import Path

import pytest

from harness.models.scans import selective

from .test_triton import counts_with_this_numpy, needs_gpu, needs_triton, run_cases

CASES = Path(__file__).with_name("selective_triton_cases.py")


@needs_triton
def test_cases_in_the_interpreter(tmp_path):
    if not counts_with_this_numpy():
        pytest.skip("this Triton's interpreter cannot run loops with this NumPy")
    run_cases(tmp_path, CASES, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_long_cases_in_the_interpreter(tmp_path):
    if not counts_with_this_numpy():
        pytest.skip("this Triton's interpreter cannot run loops with this NumPy")
    run_cases(tmp_path, CASES, ["-m", "slow"], TRITON_INTERPRET="1")


@needs_triton
@needs_gpu
def test_cases_on_the_gpu(tmp_path):
    run_cases(tmp_path, CASES, ["-m", ""], TRITON_INTERPRET="0")


@needs_triton
@pytest.mark.parametrize("ones", [(), ("length", "chunks", "D", "N")], ids=["", "sizes of 1"])
@pytest.mark.parametrize(("states", "add"), [(1, False), (16, False), (16, True)])
@pytest.mark.parametrize("kernel", ["forward", "backward"])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_compiles_for_a_gpu_that_is_not_here(kernel, states, add, ones, tmp_path, monkeypatch):
    """To machine code of an H100 or H200, with nothing spilled from registers to memory."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from harness.models.scans.selective import triton_kernels, triton_scan

    function = getattr(triton_kernels, kernel)
    tiling = {"T": 64, "CHANNELS": triton_scan.CHANNELS, "STATES": states, "ADD": add}
    constants = tiling | dict.fromkeys(ones, 1)
    sizes = dict.fromkeys(("length", "chunks", "D", "N", "first"), "i32")
    signature = {
        name: "constexpr" if name in constants else sizes.get(name, "*fp32")
        for name in function.arg_names
    }
    places = {(function.arg_names.index(name),): value for name, value in constants.items()}
    built = compile(
        ASTSource(function, signature, places),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": triton_scan.WARPS},
    )
    assert built.asm["cubin"]
    assert ".local" not in built.asm["ptx"]


def test_auto_takes_it_on_a_gpu_and_says_why_not(monkeypatch):
    monkeypatch.setattr(selective, "triton_refusal", lambda device: None)
    assert selective.choose("auto", device="cuda").name == "triton"
    assert selective.choose("auto", device="cpu").name != "triton"
    monkeypatch.setattr(selective, "triton_refusal", lambda device: "triton is not installed")
    chosen = selective.choose("auto", device="cuda")
    assert chosen.name == "parallel"
    assert chosen.reason == "triton cannot run here: triton is not installed"
    with pytest.raises(ValueError, match="backend triton cannot run here: triton is not installed"):
        selective.choose("triton", device="cpu")
