"""The Mamba layer: its equations and initialisation, its forms against each other, its blocks."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from harness.models import Mamba, build
from harness.models.description import describe, rebuild
from harness.models.scans import selective
from harness.models.scans.triton_scan import unavailable
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

# Under TRITON_INTERPRET=1 Triton's too, which `tests/models/test_selective_triton.py` holds.
BACKENDS = [b for b in selective.BACKENDS if b != "triton" or unavailable("cpu") is None]
EPS = torch.finfo(torch.float32).eps
LENGTHS = (1, 2, 7, 64, 333, 2048)
# dt A of the first state: |decay| of 0.9999, of half, and one whose first power underflows.
SPEEDS = {"slow": 1e-4, "ordinary": 0.7, "underflowing": 800.0}


def layer(width=3, state_dim=4, seed=0, **options):
    torch.manual_seed(seed)
    return Mamba(width, state_dim, **options)


def with_speed(ssm, speed):
    """The layer with steps of about this size in each channel."""
    with torch.no_grad():
        ssm.dt_up.mul_(0.1)
        ssm.dt_bias.fill_(speed + math.log(-math.expm1(-speed)))
    return ssm


def cut(ssm):
    """The layer without its first and third state."""
    ssm.keep_modes(torch.tensor([1, 3]))
    assert ssm.state_dim == 2
    return ssm


def by_hand(ssm, u):
    """Algorithm 2 and figure 3 of the paper, number by number along time, in numpy; with one x_proj
    and B by Euler, as in the authors' code. u (batch, length, H) float64."""
    p = {name: value.detach().double().numpy() for name, value in ssm.named_parameters()}
    x_proj = np.concatenate([p["dt_down"], p["B_proj"], p["C_proj"]])
    rank, n = len(p["dt_down"]), ssm.state_dim
    channels, conv = p["conv_weight"].shape
    A = -np.exp(p["A_log"])
    out = []
    for sequence in u.detach().numpy():
        h, seen = np.zeros((channels, n)), np.zeros((conv, channels))
        for token in sequence:
            branches = p["in_proj"] @ token
            seen = np.vstack([seen[1:], branches[:channels]])
            x = (p["conv_weight"].T * seen).sum(0) + p["conv_bias"]
            x = x / (1 + np.exp(-x))
            parts = x_proj @ x
            dt = np.logaddexp(0.0, p["dt_up"] @ parts[:rank] + p["dt_bias"])
            B, C = parts[rank : rank + n], parts[rank + n :]
            h = np.exp(dt[:, None] * A) * h + (dt * x)[:, None] * B
            y, z = h @ C + p["D"] * x, branches[channels:]
            out.append(p["out_proj"] @ (y * z / (1 + np.exp(-z))))
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
    "options", [{}, {"expand": 3, "conv": 1}, {"conv": 6, "dt_rank": 5}, {"dt_rank": 2}]
)
def test_forward_is_the_equation(options, backend):
    ssm = layer(backend=backend, **options).double()
    u = torch.randn(2, 37, 3, dtype=torch.float64)
    assert apart(ssm(u), by_hand(ssm, u)) < 1e-13
    assert apart(stepwise(ssm, u), by_hand(ssm, u)) < 1e-13


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "truncated"])
def test_every_form_at_every_length(whole, speed):
    """Each backend, and steps, against the equation: 1e-10 in float64, and in float32."""
    for length in LENGTHS:
        u = torch.randn(1, length, 3, dtype=torch.float64)
        ssm = with_speed(layer(), SPEEDS[speed])
        ssm = ssm if whole else cut(ssm)
        exact = by_hand(ssm, u)
        for backend in BACKENDS:
            ssm.backend = backend
            assert apart(ssm.float()(u.float()), exact) < 2e-5, (backend, length)
            assert apart(ssm.double()(u), exact) < 1e-10, (backend, length)
        assert apart(stepwise(ssm, u), exact) < 1e-10
        assert apart(stepwise(ssm.float(), u.float()), exact) < 2e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "truncated"])
def test_gradients_against_finite_differences(whole, backend, monkeypatch):
    monkeypatch.setattr("harness.models.scans.selective.slabs.SLAB_NUMBERS", 12)
    monkeypatch.setattr("harness.models.scans.selective.slabs.STEPS", 3)  # several pieces
    ssm = layer(2, 4, dt_min=0.1, dt_max=0.5, backend=backend).double()
    ssm = ssm if whole else cut(ssm)
    names = [name for name, _ in ssm.named_parameters()]
    u = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)

    def function(u, *values):
        return torch.func.functional_call(ssm, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *ssm.parameters()))


@pytest.mark.parametrize("speed", SPEEDS)
def test_gradients_of_every_backend_are_those_of_autograd(speed):
    found = {}
    for backend in BACKENDS:
        ssm = with_speed(layer(backend=backend), SPEEDS[speed]).double()
        u = torch.randn(3, 150, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        ssm(u.requires_grad_()).square().sum().backward()
        found[backend] = {**{k: p.grad for k, p in ssm.named_parameters()}, "u": u.grad}
    for backend in set(BACKENDS) - {"reference"}:
        for name, gradient in found[backend].items():
            assert bool(torch.isfinite(gradient).all())
            scale = float(found["reference"][name].abs().max())
            torch.testing.assert_close(
                gradient, found["reference"][name], rtol=0, atol=1e-11 * scale + 1e-300
            )


def test_it_is_initialised_as_the_authors_do():
    """Ranges from their `mamba_simple.py` and `mixer_seq_simple.py`."""
    ssm = layer(64, 8, residuals=4)
    D = 128
    assert ssm.dt_down.shape == (4, D)  # ceil(64 / 16)
    torch.testing.assert_close(ssm.rates, -torch.arange(1.0, 9.0).expand(D, 8))
    assert torch.equal(ssm.D, torch.ones(D))
    dt = torch.nn.functional.softplus(ssm.dt_bias).detach()
    assert 0.001 * 0.999 < dt.min() < 0.0015
    assert 0.07 < dt.max() < 0.1 * 1.001
    logs = dt.log().sort().values  # uniform
    ideal = torch.linspace(math.log(0.001), math.log(0.1), D)
    assert float((logs - ideal).abs().max()) < 0.15 * math.log(100)
    fans = {"in_proj": 64, "conv_weight": 4, "conv_bias": 4, "dt_up": 4, "out_proj": 4 * D}
    for name, fan_in in (fans | dict.fromkeys(("dt_down", "B_proj", "C_proj"), D)).items():
        bound, value = 1 / math.sqrt(fan_in), ssm.get_parameter(name).detach()
        assert 0.9 * bound < float(value.abs().max()) <= bound, name
    floored = layer(64, 8, dt_min=1e-6, dt_max=1e-5).dt_bias
    assert torch.nn.functional.softplus(floored).detach().tolist() == pytest.approx([1e-4] * D)


def test_states_are_removed_by_zeroing_their_inputs_and_outputs():
    ssm, kept = layer(state_dim=6).double(), [0, 2, 5]
    zeroed = layer(state_dim=6).double()
    with torch.no_grad():
        for n in set(range(6)) - set(kept):
            zeroed.B_proj[n] = 0.0
            zeroed.C_proj[n] = 0.0
    bits = {name: p.detach().clone() for name, p in ssm.named_parameters()}
    ssm.keep_modes(torch.tensor(kept))
    u = torch.randn(2, 50, 3, dtype=torch.float64)
    assert apart(ssm(u), zeroed(u).detach()) < 1e-14
    assert torch.equal(ssm.A_log, bits["A_log"][:, kept])
    assert torch.equal(ssm.B_proj, bits["B_proj"][kept])
    assert torch.equal(ssm.C_proj, bits["C_proj"][kept])


def test_its_state_is_that_of_the_convolution_and_of_the_recurrence():
    state = layer(8, 16).initial_state(5)
    assert [tuple(one.shape) for one in state.tensors] == [(5, 3, 16), (5, 16, 16)]
    assert state.bytes == 4 * 5 * (3 * 16 + 16 * 16)


INFO = TaskInfo("classification", outputs=4, length=20, inputs=2)


def test_the_authors_block_is_a_residual_with_no_mixer_and_a_last_norm():
    torch.manual_seed(0)
    model = build(ModelSpec(kind="mamba", width=4, blocks=2), INFO).double().eval()

    def rms(x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = torch.randn(3, 20, 2, dtype=torch.float64)
    h = model.encoder(x)
    for block in model.blocks:
        h = h + by_hand(block.ssm, rms(h))
    wanted = model.head(rms(h).mean(1))
    assert apart(model(x), wanted.detach()) < 1e-13
    inside = {name.split(".")[0] for name in model.state_dict()}
    assert inside == {"encoder", "blocks", "head"}
    bound = 1 / math.sqrt(8 * 2)  # a stack of two: by the root of two
    assert 0.8 * bound < float(model.blocks[0].ssm.out_proj.detach().abs().max()) <= bound


def test_the_backbones_block_surrounds_it_as_all_others():
    torch.manual_seed(0)
    spec = ModelSpec(kind="mamba", width=4, block="backbone")
    model = build(spec, INFO)
    names = [name for name in model.state_dict() if name.startswith("blocks.0.")]
    assert any(".glu." in name for name in names)
    assert any("running_mean" in name for name in names)
    again = rebuild(describe(model), model.state_dict())
    x = torch.randn(3, 20, 2)
    assert torch.equal(again(x), model.eval()(x))


@pytest.mark.parametrize("block", ["authors", "backbone"])
def test_a_model_steps_as_it_runs(block):
    torch.manual_seed(0)
    model = build(ModelSpec(kind="mamba", width=4, block=block), INFO).double().eval()
    x = torch.randn(3, 20, 2, dtype=torch.float64)
    state = model.initial_state(3)
    for x_t in x.unbind(1):
        logits, state = model.step(x_t, state)
    torch.testing.assert_close(logits, model(x).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dt_rank": 9}, "dt_rank 9 is above the 8 channels, expand x width"),
        ({"dt_rank": 0}, "dt_rank"),
        ({"state_dim": 0}, "state_dim"),
        ({"conv": 0}, "conv"),
        ({"dt_min": 0.2}, "dt_max 0.1 must not be below dt_min 0.2"),
        ({"norm": "none"}, "norm none belongs to block backbone, not to block authors"),
        ({"mixer": "linear"}, "mixer linear belongs to block backbone"),
        ({"backend": "chunked"}, "backend"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(kind="mamba", width=4, **fields)


def test_a_backend_of_another_device_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(
        ValueError, match=r"model\.backend scan cannot run here: its loops are comp"
    ):
        ModelSpec(kind="mamba", backend="scan").check_device("cuda")
    with pytest.raises(ValueError, match=r"model\.backend triton cannot run here: "):
        ModelSpec(kind="mamba", backend="triton").check_device("cpu")
    with pytest.raises(ValueError, match="backend is 'fft'; use auto, reference"):
        selective.choose("fft", device="cpu")


def test_without_numba_the_scan_is_one_of_pytorch(monkeypatch):
    monkeypatch.setattr(selective, "MISSING", "No module named 'numba'")
    assert selective.choose("auto", device="cpu").name == "parallel"
    ssm = layer()
    u = torch.randn(2, 9, 3, dtype=torch.float64)
    assert apart(ssm.double()(u), by_hand(ssm, u)) < 1e-13
    with pytest.raises(ValueError, match="backend scan cannot run here: No module"):
        selective.choose("scan", device="cpu")


def test_a_recurrence_stays_in_float32_under_bf16():
    ssm = layer(16, 4)
    u = torch.randn(2, 30, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ssm(u)
    assert y.dtype == torch.bfloat16
    assert apart(y, ssm(u).detach().double()) < 0.02


def test_compiled_decays_are_exponentials():
    from harness.models.scans.selective import compiled, slabs

    dt = torch.cat([torch.logspace(-9, 3, 3000), torch.zeros(1)])[None, None]
    rates = -torch.tensor([[1.0], [0.37], [16.0]]).expand(3, 3001).contiguous()
    slab = slabs.Slab(0, 1, 0, 3, 0, 1, 0)
    found = torch.empty(slab.shape(3001))
    compiled.decay(found, dt, rates, slab)
    exact = torch.exp((dt[0, :, None] * rates[None, :, None])[0].double())[None]
    large = (dt[0] * rates > -86.9)[None, :, None]
    away = ((found.double() - exact) / exact)[large]
    assert float(away.abs().max()) < 2 * EPS + 87 * EPS / 2  # and dt A is rounded itself
    assert float(away[(exact > 0.3)[large]].abs().max()) < 2 * EPS
    assert float((found.double() - exact)[~large].abs().max()) < 2e-38
    assert bool((found[..., -1] == 1.0).all())


@pytest.mark.parametrize("numbers", [1, 40, 300])
def test_slabs_are_cut_everywhere_once(numbers, monkeypatch):
    from harness.models.scans.selective import slabs

    monkeypatch.setattr(slabs, "SLAB_NUMBERS", numbers)
    monkeypatch.setattr(slabs, "STEPS", 5)
    for batch, states, length in ((3, 4, 7), (5, 2, 3), (1, 7, 16)):
        plan = slabs.Plan.of(batch, states, length, 2, torch.device("cpu"))
        count = torch.zeros(batch, states, length)
        last = {}
        for slab in (slab for b in plan.groups for slab in plan.slabs(b)):
            count[slab.b : slab.b_end, slab.n : slab.n_end, slab.t : slab.t_end] += 1
            assert math.prod(slab.shape(2)) <= 2 * plan.numbers
            last.setdefault((slab.b, slab.n), []).append(slab.t)
        assert bool((count == 1).all())
        assert all(a < b for times in last.values() for a, b in pairwise(times))
        assert plan.pieces * states <= length + states  # what is kept is no larger than the input


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sequences", [1, 5])
def test_no_number_of_threads_changes_a_bit(sequences, dtype, monkeypatch):
    from harness.models.scans.selective import slabs

    monkeypatch.setattr(slabs, "SLAB_NUMBERS", 300)
    monkeypatch.setattr(slabs, "STEPS", 5)
    monkeypatch.setattr(slabs, "WORTHWHILE", 1)
    pools, found = [], []
    pool_of = slabs.ThreadPoolExecutor
    monkeypatch.setattr(slabs, "ThreadPoolExecutor", lambda n: pools.append(n) or pool_of(n))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ssm = layer(backend="scan").to(dtype)
            numbers = torch.Generator().manual_seed(1)
            u = torch.randn(sequences, 40, 3, dtype=dtype, generator=numbers)
            y = ssm(u.requires_grad_())
            y.square().sum().backward()
            found.append([y, u.grad, *(p.grad for p in ssm.parameters())])
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], one, strict=True))
    assert pools == ([2, 2, 3, 3] if sequences == 5 else [])  # forward and backward of two threads


def test_a_fault_on_a_thread_is_one_of_the_pass(monkeypatch):
    from harness.models.scans.selective import compiled, slabs

    monkeypatch.setattr(slabs, "SLAB_NUMBERS", 300)
    monkeypatch.setattr(slabs, "WORTHWHILE", 1)
    monkeypatch.setattr(slabs.Plan, "threads", lambda *_: 2)
    monkeypatch.setattr(compiled, "decay", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        layer(backend="scan")(torch.randn(4, 40, 3))


def test_against_transformers_slow_path():
    """Development test: weights copied over, where the library is there."""
    mamba = pytest.importorskip("transformers.models.mamba.modeling_mamba")
    from transformers import MambaConfig

    ours = layer(8, 4, dt_rank=2).double()
    config = MambaConfig(
        hidden_size=8, state_size=4, expand=2, conv_kernel=4, time_step_rank=2, use_bias=False
    )
    theirs = mamba.MambaMixer(config, layer_idx=0).double()
    p = dict(ours.named_parameters())
    with torch.no_grad():
        theirs.in_proj.weight.copy_(p["in_proj"])
        theirs.conv1d.weight.copy_(p["conv_weight"][:, None])
        theirs.conv1d.bias.copy_(p["conv_bias"])
        theirs.x_proj.weight.copy_(torch.cat([p["dt_down"], p["B_proj"], p["C_proj"]]))
        theirs.dt_proj.weight.copy_(p["dt_up"])
        theirs.dt_proj.bias.copy_(p["dt_bias"])
        theirs.A_log.copy_(p["A_log"])
        theirs.D.copy_(p["D"])
        theirs.out_proj.weight.copy_(p["out_proj"])
        u = torch.randn(2, 40, 8, dtype=torch.float64)
        torch.testing.assert_close(theirs(u), ours(u), rtol=1e-5, atol=1e-5)
