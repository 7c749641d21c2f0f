"""The Mamba-2 layer: its equations and initialisation, its forms against each other, its blocks."""

import math

import numpy as np
import pytest
import torch

from harness.models import Mamba2, build
from harness.models.description import describe, rebuild
from harness.models.scans import ssd
from harness.models.scans.ssd import BACKENDS
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

LENGTHS = (1, 2, 31, 32, 33, 333, 2048)
# -dt A of a head: |decay| of 0.9999, of half, and one whose first power underflows.
SPEEDS = {"slow": 1e-4, "ordinary": 0.7, "underflowing": 800.0}


def layer(width=4, state_dim=3, seed=0, head_dim=2, groups=2, **options):
    torch.manual_seed(seed)
    return Mamba2(width, state_dim, head_dim=head_dim, groups=groups, **options)


def with_speed(ssm, speed):
    """The layer with decays of about exp(-speed) in each head."""
    with torch.no_grad():
        ssm.dt_proj.mul_(0.1)
        dt = speed / -ssm.rates
        ssm.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))
    return ssm


def cut(ssm):
    """The layer with two states of each group, not the same ones."""
    ssm.keep_modes(torch.tensor([[0, 2], [1, 2]]))
    assert ssm.state_dim == 2
    return ssm


def by_hand(ssm, u):
    """Section 7 and figure 6 of the paper, and the recurrence of its equation (2), number by number
    along time, in numpy. u (batch, length, H) float64."""
    p = {name: value.detach().double().numpy() for name, value in ssm.named_parameters()}
    (groups, n, _), (channels, conv) = p["B_proj"].shape, p["x_conv"].shape
    heads = len(p["A_log"])
    size = channels // heads

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    out = []
    for sequence in u.detach().numpy():
        h = np.zeros((heads, size, n))
        seen = {"x": np.zeros((conv, channels))}
        seen |= {name: np.zeros((conv, groups, n)) for name in "BC"}
        for token in sequence:
            z, x = np.split(p["in_proj"] @ token, 2)
            now = {"x": x, "B": p["B_proj"] @ token, "C": p["C_proj"] @ token}
            for name, value in now.items():
                seen[name] = np.concatenate([seen[name][1:], value[None]])
                taps = np.moveaxis(p[f"{name}_conv"], -1, 0)
                v = (taps * seen[name]).sum(0) + p[f"{name}_conv_bias"]
                now[name] = v * sigmoid(v)
            x = now["x"].reshape(heads, size)
            dt = np.logaddexp(0.0, p["dt_proj"] @ token + p["dt_bias"])
            y = np.zeros((heads, size))
            for k in range(heads):
                g = k // (heads // groups)
                decay = np.exp(-dt[k] * np.exp(p["A_log"][k]))
                h[k] = decay * h[k] + dt[k] * np.outer(x[k], now["B"][g])
                y[k] = h[k] @ now["C"][g] + p["D"][k] * x[k]
            gated = (y.ravel() * z * sigmoid(z)).reshape(groups, -1)
            normal = gated / np.sqrt((gated**2).mean(1, keepdims=True) + 1e-5)
            out.append(p["out_proj"] @ (normal.ravel() * p["norm_weight"]))
    return torch.from_numpy(np.stack(out)).view(u.shape)


def apart(ours, exact):
    assert ours.shape == exact.shape
    return float((ours.detach().double() - exact).norm() / exact.norm())


@torch.no_grad()
def stepwise(ssm, u):
    state, out = ssm.initial_state(len(u)), []
    for u_k in u.unbind(1):
        y, state = ssm.step(u_k, state)
        out.append(y)
    return torch.stack(out, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"groups": 4}, {"groups": 1, "conv": 1}, {"expand": 3, "head_dim": 3, "conv": 6},
     {"head_dim": 8, "groups": 1}],
)  # fmt: skip
def test_forward_is_the_equation(options, backend):
    ssm = layer(backend=backend, **options).double()
    with torch.no_grad():
        ssm.D.normal_()
        ssm.norm_weight.normal_()
    u = torch.randn(2, 37, 4, dtype=torch.float64)
    assert apart(ssm(u), by_hand(ssm, u)) < 1e-13
    assert apart(stepwise(ssm, u), by_hand(ssm, u)) < 1e-13


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "truncated"])
def test_every_form_at_every_length(whole, speed):
    """Each backend, and steps, against the equation: 1e-10 in float64, and in float32."""
    for length in LENGTHS:
        u = torch.randn(1, length, 4, dtype=torch.float64)
        ssm = with_speed(layer(), SPEEDS[speed])
        ssm = ssm if whole else cut(ssm)
        exact = by_hand(ssm, u)
        for backend in BACKENDS:
            ssm.backend = backend
            assert apart(ssm.float()(u.float()), exact) < 1e-5, (backend, length)
            assert apart(ssm.double()(u), exact) < 1e-10, (backend, length)
        assert apart(stepwise(ssm, u), exact) < 1e-10
        assert apart(stepwise(ssm.float(), u.float()), exact) < 1e-5


def pieces_of(monkeypatch, chunk, numbers):
    monkeypatch.setattr(ssd, "CHUNK", chunk)
    monkeypatch.setattr(ssd, "PIECE_NUMBERS", numbers)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "truncated"])
def test_gradients_against_finite_differences(whole, backend, monkeypatch):
    pieces_of(monkeypatch, 2, 16)  # several pieces of two chunks
    ssm = layer(2, 3, dt_min=0.1, dt_max=0.5, backend=backend).double()
    ssm = ssm if whole else cut(ssm)
    names = [name for name, _ in ssm.named_parameters()]
    u = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)

    def function(u, *values):
        return torch.func.functional_call(ssm, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *ssm.parameters()))


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize(("chunk", "numbers"), [(32, 2**18), (16, 2048), (8, 1)])
def test_gradients_of_every_cut_are_those_of_autograd(speed, chunk, numbers, monkeypatch):
    pieces_of(monkeypatch, chunk, numbers)
    found = {}
    for backend in BACKENDS:
        ssm = with_speed(layer(backend=backend), SPEEDS[speed]).double()
        u = torch.randn(3, 150, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        ssm(u.requires_grad_()).square().sum().backward()
        found[backend] = {**{k: p.grad for k, p in ssm.named_parameters()}, "u": u.grad}
    for name, gradient in found["chunked"].items():
        assert bool(torch.isfinite(gradient).all())
        scale = float(found["reference"][name].abs().max())
        torch.testing.assert_close(
            gradient, found["reference"][name], rtol=0, atol=1e-11 * scale + 1e-300
        )


@pytest.mark.parametrize("numbers", [1, 100, 2000])
def test_pieces_are_cut_everywhere_once(numbers, monkeypatch):
    pieces_of(monkeypatch, 4, numbers)
    for batch, states, length in ((3, 4, 7), (5, 9, 41), (1, 7, 16), (2, 1, 1)):
        plan = ssd._Plan.of(torch.empty(batch, length, 2, 3), states)
        count = torch.zeros(batch, length)
        for sequences in plan.sequence_slices():
            for piece in range(plan.pieces):
                count[sequences, plan.steps_of(piece)] += 1
        assert bool((count == 1).all())
        assert plan.pieces * states <= length + states  # what is kept is no larger than the input


def test_memory_is_that_of_the_inputs():
    """Kept for the backward pass: inputs, and states before each piece of at least N steps."""
    N, kept = 16, []
    x, B = torch.randn(1, 2048, 4, 8, requires_grad=True), torch.randn(1, 2048, 1, N)
    dt, A = torch.rand(1, 2048, 4), -torch.ones(4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        ssd.ssd_scan(x, dt, A, B, B, "chunked")
    given = sum(one.numel() for one in (x, dt, A, B, B))
    assert given < sum(kept) <= given + x.numel() * (1 + N / 2048)


def test_it_is_initialised_as_the_authors_do():
    """Ranges from their `mamba2.py` and `mixer_seq_simple.py`."""
    ssm = layer(64, 16, head_dim=1, groups=4, residuals=4)
    D = heads = 128
    rates = -ssm.rates.detach()
    assert 1.0 <= float(rates.min()) < 1.5
    assert 15.5 < float(rates.max()) <= 16.001
    ideal = torch.linspace(1, 16, heads)
    assert float((rates.sort().values - ideal).abs().max()) < 0.15 * 15
    assert torch.equal(ssm.D, torch.ones(heads))
    assert torch.equal(ssm.norm_weight, torch.ones(D))
    dt = torch.nn.functional.softplus(ssm.dt_bias).detach()
    logs = dt.log().sort().values  # uniform
    ideal = torch.linspace(math.log(0.001), math.log(0.1), heads)
    assert float((logs - ideal).abs().max()) < 0.15 * math.log(100)
    fans = dict.fromkeys(("in_proj", "B_proj", "C_proj", "dt_proj"), 64) | {"out_proj": 4 * D}
    fans |= {f"{name}_conv{end}": 4 for name in "xBC" for end in ("", "_bias")}
    for name, fan_in in fans.items():
        bound, value = 1 / math.sqrt(fan_in), ssm.get_parameter(name).detach()
        assert 0.9 * bound < float(value.abs().max()) <= bound, name
    floored = layer(64, 8, dt_min=1e-6, dt_max=1e-5).dt_bias
    assert torch.nn.functional.softplus(floored).detach().tolist() == pytest.approx([1e-4] * 64)


@pytest.mark.parametrize("modes", [[[0, 2], [1, 3]], [1, 3]], ids=["of each group", "of all"])
def test_states_are_removed_by_zeroing_their_inputs_and_outputs(modes):
    ssm, zeroed = layer(state_dim=4).double(), layer(state_dim=4).double()
    kept = torch.tensor(modes).expand(2, 2)
    with torch.no_grad():
        for g in range(2):
            for n in set(range(4)) - set(kept[g].tolist()):
                for name in zeroed.of_states:
                    zeroed.get_parameter(name)[g, n] = 0.0
    bits = {name: p.detach().clone() for name, p in ssm.named_parameters()}
    ssm.keep_modes(torch.tensor(modes))
    u = torch.randn(2, 50, 4, dtype=torch.float64)
    assert apart(ssm(u), zeroed(u).detach()) < 1e-14
    for name, old in bits.items():
        if name in ssm.of_states:
            old = torch.stack([old[g, kept[g]] for g in range(2)])
        assert torch.equal(ssm.get_parameter(name), old), name


def test_its_state_is_that_of_the_convolution_and_of_the_recurrence():
    state = layer(8, 16).initial_state(5)
    assert [tuple(one.shape) for one in state.tensors] == [(5, 3, 16 + 2 * 2 * 16), (5, 8, 2, 16)]
    assert state.bytes == 4 * 5 * (3 * 80 + 16 * 16)


INFO = TaskInfo("classification", outputs=4, length=20, inputs=2)
FIELDS = {"kind": "mamba2", "width": 4, "state_dim": 3, "head_dim": 2, "groups": 2}


def test_the_authors_block_is_a_residual_with_no_mixer_and_a_last_norm():
    torch.manual_seed(0)
    model = build(ModelSpec(**FIELDS, blocks=2), INFO).double().eval()

    def rms(x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = torch.randn(3, 20, 2, dtype=torch.float64)
    h = model.encoder(x)
    for block in model.blocks:
        h = h + by_hand(block.ssm, rms(h))
    wanted = model.head(rms(h).mean(1))
    assert apart(model(x), wanted.detach()) < 1e-13
    bound = 1 / math.sqrt(8 * 2)  # a stack of two: by the root of two
    assert 0.8 * bound < float(model.blocks[0].ssm.out_proj.detach().abs().max()) <= bound


def test_the_backbones_block_surrounds_it_as_all_others():
    torch.manual_seed(0)
    model = build(ModelSpec(**FIELDS, block="backbone"), INFO)
    names = [name for name in model.state_dict() if name.startswith("blocks.0.")]
    assert any(".glu." in name for name in names)
    assert any("running_mean" in name for name in names)
    again = rebuild(describe(model), model.state_dict())
    x = torch.randn(3, 20, 2)
    assert torch.equal(again(x), model.eval()(x))


@pytest.mark.parametrize("block", ["authors", "backbone"])
def test_a_model_steps_as_it_runs(block):
    torch.manual_seed(0)
    model = build(ModelSpec(**FIELDS, block=block), INFO).double().eval()
    x = torch.randn(3, 20, 2, dtype=torch.float64)
    state = model.initial_state(3)
    for x_t in x.unbind(1):
        logits, state = model.step(x_t, state)
    torch.testing.assert_close(logits, model(x).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 3}, "head_dim 3 does not divide the 8 channels, expand x width"),
        ({"head_dim": 16}, "head_dim 16 does not divide the 8 channels"),
        ({"groups": 3}, "groups 3 must divide the heads, of which there are 4: 8 channels in head"),
        ({"head_dim": "auto"}, "groups 2 must divide the heads, of which there are 1"),
        ({"head_dim": 0}, "head_dim"),
        ({"groups": 0}, "groups"),
        ({"state_dim": 0}, "state_dim"),
        ({"dt_min": 0.2}, "dt_max 0.1 must not be below dt_min 0.2"),
        ({"norm": "none"}, "norm none belongs to block backbone, not to block authors"),
        ({"backend": "triton"}, "backend"),
        ({"dt_rank": 3}, "dt_rank"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(**{**FIELDS, **fields})


@pytest.mark.parametrize(
    ("width", "heads"), [(32, 1), (64, 2), (48, 2), (6, 1), (67, 67)]
)  # of 64 channels, 64, 48, 12 and 2
def test_heads_have_64_channels_or_the_next_number_that_divides(width, heads):
    assert ModelSpec(kind="mamba2", width=width).heads == heads


def test_a_backend_has_a_name():
    assert ssd.choose("auto").name == "chunked"
    with pytest.raises(ValueError, match="backend is 'scan'; use auto, reference, chunked"):
        ssd.choose("scan")


def test_a_recurrence_stays_in_float32_under_bf16():
    ssm = layer(16, 4)
    u = torch.randn(2, 30, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ssm(u)
    assert y.dtype == torch.bfloat16
    assert apart(y, ssm(u).detach().double()) < 0.02


def test_against_transformers_slow_path():
    """Development test: weights copied over, where the library is there. With one group: its norm
    has no groups, and the authors' has."""
    theirs = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    from transformers import Mamba2Config

    ours = layer(8, 5, head_dim=4, groups=1).double()
    config = Mamba2Config(
        hidden_size=8, state_size=5, expand=2, conv_kernel=4, head_dim=4, num_heads=4, n_groups=1,
        use_bias=False, chunk_size=16,
    )  # fmt: skip
    mixer = theirs.Mamba2Mixer(config, layer_idx=0).double()
    p = dict(ours.named_parameters())
    with torch.no_grad():
        p["D"].normal_()
        p["norm_weight"].normal_()
        parts = [p["in_proj"], p["B_proj"][0], p["C_proj"][0], p["dt_proj"]]
        mixer.in_proj.weight.copy_(torch.cat(parts))
        convs = [p["x_conv"], p["B_conv"][0], p["C_conv"][0]]
        mixer.conv1d.weight.copy_(torch.cat(convs)[:, None])
        biases = [p["x_conv_bias"], p["B_conv_bias"][0], p["C_conv_bias"][0]]
        mixer.conv1d.bias.copy_(torch.cat(biases))
        for name in ("dt_bias", "A_log", "D"):
            mixer.get_parameter(name).copy_(p[name])
        mixer.norm.weight.copy_(p["norm_weight"])
        mixer.out_proj.weight.copy_(p["out_proj"])
        u = torch.randn(2, 40, 8, dtype=torch.float64)
        torch.testing.assert_close(mixer(u), ours(u), rtol=1e-5, atol=1e-5)
