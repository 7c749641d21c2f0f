"""How fast the layers are beside others: the whole at toy size, and what is asked of it."""

import json
import sys
import types

import pytest
import torch

from harness.bench import layers_bench as bench
from harness.bench.interleaved import Rounds
from harness.bench.peer_layers import PEERS, Peer
from harness.cli.app import execute


def test_every_kind_is_measured_against_the_plain_recurrence_and_fewer_states(capsys):
    assert execute(["bench", "layers", "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in found["rows"]] == ["s5", "s4d", "mamba", "mamba2"]
    for row in found["rows"]:
        assert row["seconds"]["median"] > 0
        assert row["over_plain"]["low"] <= row["over_plain"]["median"] <= row["over_plain"]["high"]
        assert row["flop_ratio"] > 1.0
        assert (row["other"] is None) == (row["over_other"] is None)
    text = "\n".join(bench.lines(found))
    assert "x plain" in text
    assert "mamba2" in text


def test_the_plain_recurrence_is_the_same_layer():
    for case in bench.QUICK_CASES:
        u = torch.randn(2, 20, case.spec.width)
        ours, plain = (
            bench.Passes(case.at(case.states, backend), u) for backend in ("auto", "reference")
        )
        ours()
        plain()
        torch.testing.assert_close(ours.loss, plain.loss, rtol=1e-4, atol=0.0)
        assert ours.u.grad is not None
        assert ours.layer.state_dim == case.states


def test_a_loss_that_is_no_number_enters_no_table():
    case = bench.QUICK_CASES[0]
    one = bench.Passes(case.spec, torch.full((1, 4, case.spec.width), torch.inf))
    one()
    with pytest.raises(RuntimeError, match="the layer: the loss of a benchmarked layer is"):
        one.check("the layer")


def test_a_layer_by_others_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mambapy", None)
    case = bench.QUICK_CASES[2]
    assert PEERS["mamba"].passes(case.spec, 4, torch.randn(1, 8, case.spec.width)) is None


def test_it_takes_its_turns_where_it_is(monkeypatch):
    calls = types.SimpleNamespace(number=0)

    def call():
        calls.number += 1

    monkeypatch.setitem(PEERS, "mamba2", Peer("theirs", lambda spec, states, u: call))
    row = bench.row_of(bench.QUICK_CASES[3], 16, 2)
    assert row["other"] == "theirs"
    assert calls.number == 1 + 2  # one that does not count
    assert row["over_other"]["median"] < 1.0


def test_ratios_say_how_many_times_faster(monkeypatch):
    seconds = {"layer": [1.0], "plain": [3.0], "after": [0.5], "other": [2.0]}
    monkeypatch.setattr(bench, "interleave", lambda *_, **__: Rounds(seconds, {}))
    monkeypatch.setitem(PEERS, "s5", Peer("theirs", lambda spec, states, u: lambda: None))
    row = bench.row_of(bench.QUICK_CASES[0], 8, 1)
    found = {name: row[name]["median"] for name in ("over_plain", "over_other", "over_full")}
    assert found == {"over_plain": 3.0, "over_other": 2.0, "over_full": 2.0}


def test_what_cannot_be_measured_is_refused(capsys):
    assert execute(["bench", "layers", "--rounds", "0"]) == 2
    assert "rounds must be at least 1, not 0" in capsys.readouterr().err
