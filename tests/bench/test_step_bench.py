"""The table of training steps: right from made-up timings, and whole from a run at toy size."""

import json

import pytest
import torch

from harness.bench import shapes, step_table
from harness.bench import step_bench as step
from harness.bench.interleaved import Rounds
from harness.bench.step_memory import Case
from harness.cli.app import execute

SECONDS = {
    "gemm": [0.5, 1.0, 0.25],
    "copy": [0.1, 0.1, 0.1],
    "associative 8": [4.0, 8.0, 6.0],
    "toeplitz 8": [1.0, 1.0, 2.0],
    "associative 2": [2.0, 2.0, 1.0],
    "toeplitz 2": [1.0, 0.5, 1.0],
}


@pytest.fixture
def found(toy):
    """The toy shape summarised from `SECONDS`; FLOPs and bytes chosen to be easy."""
    cases = [Case(toy, n, name) for n in (8, 2) for name in ("toeplitz", "associative")]
    timed = Rounds(SECONDS, dict.fromkeys(SECONDS, 9.0))
    ceilings = {"gemm": 10.0 * toy.flops(8), "copy": 1e3}
    peaks = [2**20, 3 * 2**20, None, 2**19]
    return step.summarise(toy, cases, timed, ceilings, peaks, {8: "toeplitz", 2: "scan"})


def row(found, n, backend):
    (one,) = (r for r in found["rows"] if (r["state_dim"], r["backend"]) == (n, backend))
    return one


def test_a_graph_is_compared_with_a_graph_and_has_a_row_of_its_own(toy):
    cases = [
        Case(toy, 8, name, graph=g) for name in ("triton", "associative") for g in (False, True)
    ]
    seconds = {"triton 8": 2.0, "triton 8 graph": 0.5, "associative 8": 4.0}
    seconds |= {"associative 8 graph": 3.0, "gemm": 1.0, "copy": 1.0}
    timed = Rounds({k: [v] for k, v in seconds.items()}, dict.fromkeys(seconds, 9.0))
    found = step.summarise(toy, cases, timed, {"gemm": 1.0, "copy": 1.0}, [None] * 4, {8: "triton"})
    said = [
        (r["backend"], r["graph"], r["faster_than_associative"]["median"]) for r in found["rows"]
    ]
    assert said == [
        ("triton", False, 2.0), ("triton", True, 6.0),
        ("associative", False, 1.0), ("associative", True, 1.0),
    ]  # fmt: skip
    assert ["bytes" in r for r in found["rows"]] == [False, False, True, False]
    assert any("triton* graph" in line for line in step_table.shape_lines(found))


def test_flops_and_bytes_counted_by_hand(toy):
    # 3 x batch 2 x (16 tokens x (8 N H + 8 N + 4 H^2 + 2 H) + the head's 2 H x 3 outputs)
    assert toy.flops(8) == 3 * 2 * (16 * (8 * 8 * 4 + 8 * 8 + 4 * 16 + 2 * 4) + 2 * 4 * 3)
    # levels of 16, 8, 4, 2; 8 numbers of 8 bytes for each element, batch 2, N 8
    assert toy.associative_bytes(8) == 8 * 8 * 30 * 2 * 8


def test_ratios_speedups_and_shares(toy, found):
    fast = row(found, 8, "toeplitz")
    assert fast["seconds"] == {"median": 1.0, "low": 1.0, "high": 2.0, "rounds": [1.0, 1.0, 2.0]}
    assert fast["faster_than_associative"] == {"median": 4.0, "low": 3.0, "high": 8.0}
    assert fast["share_of_gemm"] == pytest.approx({"median": 0.05, "low": 0.0125, "high": 0.1})
    assert fast["flops_per_second"]["median"] == toy.flops(8)
    assert fast["measured_speedup"]["median"] == 1.0
    assert "bytes" not in fast
    slow = row(found, 2, "associative")
    assert slow["measured_speedup"] == {"median": 4.0, "low": 2.0, "high": 6.0}
    assert slow["ideal_speedup"] == toy.flops(8) / toy.flops(2)
    assert slow["bytes_per_second"]["high"] == toy.associative_bytes(2)
    assert slow["share_of_copy"]["low"] == pytest.approx(toy.associative_bytes(2) / 2 / 1e4)
    assert row(found, 2, "toeplitz")["peak_bytes"] is None


def test_without_the_baseline_there_is_no_ratio_to_it(toy):
    cases = [Case(toy, 8, "toeplitz")]
    timed = Rounds(SECONDS, dict.fromkeys(SECONDS, 9.0))
    found = step.summarise(toy, cases, timed, {"gemm": 1.0, "copy": 1.0}, [0], {8: "scan"})
    assert found["rows"][0]["faster_than_associative"] is None


def test_the_table(found, machine):
    left_out = [{"shape": s, "backend": "triton", "reason": "no GPU"} for s in ("toy", "other")]
    result = {"machine": machine, "rounds": 3, "official": "measured elsewhere " * 20}
    lines = step_table.lines({**result, "shapes": [found], "left_out": left_out})
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("an abacus, 2 cores, 2 threads; torch 2.99, no numba, triton 3.0")
    (fast,) = (line.split() for line in lines if line.startswith("8") and "toeplitz*" in line)
    assert fast[2:6] == ["1000", "1000..2000", "4.00", "3.00..8.00"]
    assert fast[7:10] == ["5", "%", "1.00"]
    small = next(line.split() for line in lines if line.startswith("2") and "toeplitz" in line)
    assert "*" not in small[1]
    assert "  triton at toy, other: no GPU" in lines


def test_the_official_code_stands_beside_with_its_own_speedup(found):
    toy = shapes.SHAPES["smnist"]
    assert {(s.name, n) for s in shapes.SHAPES.values() for n in s.state_dims} == set(
        shapes.OFFICIAL_MS
    )
    assert found["official"] == []  # nobody measured the toy
    cases = [Case(toy, n, "toeplitz") for n in toy.state_dims]
    timed = Rounds(
        {name: [1.0] for name in ("gemm", "copy", *map(step.key, cases))},
        {step.key(case): 1.0 for case in cases},
    )
    auto = dict.fromkeys(toy.state_dims, "toeplitz")
    official = step.summarise(toy, cases, timed, {"gemm": 1.0, "copy": 1.0}, [0] * 3, auto)[
        "official"
    ]
    assert [round(one["measured_speedup"], 2) for one in official] == [1.0, 4.66, 18.24]
    cells = step_table.official_cells(official[2])
    assert len(cells) == len(step_table.HEADER)
    assert cells[1:3] == ["official +", "45.0"]


def test_what_cannot_run_or_is_too_slow_is_listed_with_its_reason():
    wanted = step.step_bench_options(shapes="smnist,listops")
    cpu = torch.device("cpu")
    for shape, slow in zip(wanted.shapes, ({"reference"}, {"reference", "toeplitz"}), strict=True):
        cases, left_out = step.split_cases(shape, wanted, cpu)
        assert {entry["backend"] for entry in left_out} == {"triton", *slow}
        assert all(entry["reason"] and entry["shape"] == shape.name for entry in left_out)
        measured = {case.backend for case in cases}
        assert measured | {"triton"} | slow == set(step.BACKENDS)
        assert len(cases) == len(measured) * len(shape.state_dims)
    named = step.step_bench_options(shapes="listops", backends="reference")
    cases, left_out = step.split_cases(named.shapes[0], named, cpu)
    assert [case.backend for case in cases] == ["reference"]
    assert left_out == []


def test_a_run_at_toy_size(toy, monkeypatch, capsys):
    monkeypatch.setitem(shapes.SHAPES, "toy", toy)
    command = ["bench", "step", "--quick", "--shapes", "toy", "--rounds", "2", "--threads", "1"]
    assert execute([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"machine", "rounds", "shapes", "left_out"} <= result.keys()
    assert result["machine"]["identity"]["threads"] == 1
    (found,) = result["shapes"]
    assert len(found["rows"]) == 2 * 4  # at L 16 the reference too
    for one in found["rows"]:
        assert len(one["seconds"]["rounds"]) == 2
        assert all(second > 0 for second in one["seconds"]["rounds"])
        assert isinstance(one["peak_bytes"], int)
    assert "\n".join(step_table.lines(result)).count("associative") > 2
