"""The S4D layer: its equation and initialisations, its forms against each other, its truncation."""

import math

import pytest
import torch

from harness.models import build
from harness.models.description import describe, rebuild
from harness.models.layers.hippo import legs, legs_input
from harness.models.layers.s4d import INITS, S4D
from harness.models.scans.channels import BACKENDS
from harness.reduction import spectra, truncate
from harness.suite import ModelSpec
from harness.tasks import TaskInfo

EPS = torch.finfo(torch.float32).eps
LENGTHS = (1, 2, 7, 64, 333, 2048)
MEMORIES = {"slow": 0.9999, "underflowing": None, "ordinary": 0.9}
VARIANTS = [{"n_ssm": n, "discretisation": how} for n in (1, 2, 4) for how in ("zoh", "bilinear")]


def layer(width=4, state_dim=3, seed=0, **options):
    torch.manual_seed(seed)
    return S4D(width, state_dim, **options)


def with_memory(ssm, memory):
    """The layer with eigenvalues of about this magnitude, or so fast that their powers underflow;
    exactly so where every channel has its own."""
    with torch.no_grad():
        ssm.log_dt.fill_(math.log(0.01))
        ssm.log_A_real.fill_(math.log((300.0 if memory is None else -math.log(memory)) / 0.01))
        ssm.A_imag.copy_(torch.linspace(-300.0, 300.0, ssm.A_imag.numel()).view_as(ssm.A_imag))
    return ssm


def by_hand(ssm, u):
    """y of (batch, length, H) float64 in plain complex arithmetic, step by step."""
    A = torch.complex(-ssm.log_A_real.double().exp(), ssm.A_imag.double()).detach()
    raw = torch.complex(ssm.B_re, ssm.B_im).detach().to(torch.complex128)
    of = [h % len(A) for h in range(ssm.width)]
    A, raw = A[of], raw[of]
    C = torch.complex(ssm.C_re, ssm.C_im).detach().to(torch.complex128)
    dt = ssm.log_dt.detach().double().exp()[:, None]
    if ssm.discretisation == "zoh":
        lam, into = torch.exp(A * dt), (torch.exp(A * dt) - 1) / A * raw
    else:
        lam, into = (1 + A * dt / 2) / (1 - A * dt / 2), dt / (1 - A * dt / 2) * raw
    for h, n in enumerate(ssm.orders.tolist()):
        C[h, n:] = 0.0
    x, out = torch.zeros(len(u), *lam.shape, dtype=lam.dtype), []
    for u_k in u.unbind(1):
        x = lam * x + into * u_k[..., None]
        out.append(2 * (x * C).sum(-1).real)
    return torch.stack(out, 1) + ssm.D.detach().double() * u


def apart(ours, exact):
    assert ours.shape == exact.shape
    return float((ours.detach().double() - exact).norm() / exact.norm())


def stepwise(ssm, u):
    state, out = ssm.initial_state(len(u)), []
    for u_k in u.unbind(1):
        y, state = ssm.step(u_k, state)
        out.append(y)
    return torch.stack(out, 1)


def ragged(ssm, orders=(2, 1, 3, 1)):
    """The layer truncated to an order for each channel."""
    truncate(torch.nn.Sequential(ssm), state_dims=[orders])
    assert ssm.orders.tolist() != [3] * 4
    return ssm


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_forward_is_the_equation(options, backend):
    ssm = layer(backend=backend, **options).double()
    u = torch.randn(2, 37, 4, dtype=torch.float64)
    assert apart(ssm(u), by_hand(ssm, u)) < 1e-12


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "truncated"])
@pytest.mark.parametrize("options", VARIANTS[::3])
def test_every_form_at_every_length(options, cut, memory):
    """Each backend, and steps, against the equation: 1e-10 in float64, in float32 as the scans."""
    for length in LENGTHS:
        u = torch.randn(1, length, 4, dtype=torch.float64)
        ssm = with_memory(layer(**options), MEMORIES[memory])
        ssm = ragged(ssm) if cut else ssm
        exact = by_hand(ssm, u)
        for backend in BACKENDS:
            ssm.backend = backend
            assert apart(ssm.float()(u.float()), exact) < 2e-4, (backend, length)
            assert apart(ssm.double()(u), exact) < 1e-10, (backend, length)
        assert apart(stepwise(ssm, u), exact) < 1e-10
        assert apart(stepwise(ssm.float(), u.float()), exact) < 2e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "truncated"])
@pytest.mark.parametrize("options", VARIANTS[:3])
def test_gradients_against_finite_differences(options, cut, backend, monkeypatch):
    monkeypatch.setattr("harness.models.scans.toeplitz.SHORTEST", 1)  # several blocks, few numbers
    monkeypatch.setattr("harness.models.scans.toeplitz.LONGEST", 3)
    ssm = layer(2, 2, dt_min=0.1, dt_max=0.5, backend=backend, **{**options, "n_ssm": 1}).double()
    if cut:
        truncate(torch.nn.Sequential(ssm), state_dims=[(1, 2)])
    names = [name for name, _ in ssm.named_parameters()]
    u = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)

    def function(u, *values):
        return torch.func.functional_call(ssm, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *ssm.parameters()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_powers_that_underflow_are_numbers(backend):
    for fast in (10.0, 18.4, 95.0, 300.0):
        ssm = layer(backend=backend)
        with torch.no_grad():
            ssm.log_A_real.fill_(math.log(fast / 0.01))
            ssm.log_dt.fill_(math.log(0.01))
        ssm(torch.randn(2, 60, 4)).sum().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in ssm.parameters())


def test_the_initial_poles_are_the_authors():
    n = 4
    A, B = INITS["lin_1"](n)
    assert A.tolist() == [complex(-0.5, math.pi * k) for k in range(n)]
    assert torch.equal(B, torch.ones_like(B))
    A, _ = INITS["inv_1"](n)
    torch.testing.assert_close(A.imag, torch.tensor(
        [8 / math.pi * (8 / (2 * k + 1) - 1) for k in range(n)], dtype=torch.float64))  # fmt: skip
    # legs: the system of the normal part has the impulse response of HiPPO's own, read by any C.
    A, B = INITS["legs_1"](n)
    p = torch.sqrt(torch.arange(2 * n).double() + 0.5)
    normal = legs(2 * n) + torch.outer(p, p)
    found = torch.linalg.eigvals(normal)
    found = found[found.imag < 0]
    torch.testing.assert_close(found.imag.sort().values, A.imag.sort().values)
    # B in the basis of the eigenvectors: its norm over pairs is that of HiPPO's, before clipping.
    unclipped = float(legs_input(2 * n).square().sum())
    assert 2 * float(B.abs().square().sum()) <= unclipped + 1e-9
    assert float(B.imag.abs().max()) <= 2.0


def test_dfout_has_its_phases_evenly_on_the_circle():
    ssm = layer(6, 5, n_ssm=6, init="dfout_1")
    lam = ssm.system()[0]
    phases = torch.cat([lam.angle(), -lam.angle()], 1).sort(1).values
    torch.testing.assert_close(
        phases.diff(dim=1), torch.full_like(phases[:, 1:], math.pi / 5), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("options", VARIANTS)
def test_a_truncation_is_that_of_every_channel(options):
    """Against the error of each channel's own transfer function on the circle."""
    ssm = layer(4, 6, dt_min=0.05, dt_max=0.5, **options).double()
    full, D, log_dt = ssm.system(), ssm.D, ssm.log_dt
    (t,) = truncate(torch.nn.Sequential(ssm), state_dims=[(1, 2, 3, 4)])
    small = ssm.system()
    assert ssm.D is D
    assert ssm.log_dt is log_dt
    assert ssm.orders.tolist() == list(t.orders)
    z = torch.exp(1j * torch.linspace(0, math.pi, 400, dtype=torch.float64))[:, None]

    def response(lam, B, C):
        one = z * ((C / (z - lam)) @ B[:, None])
        return (one + z * ((C.conj() / (z - lam.conj())) @ B.conj()[:, None])) / 2

    for h in range(4):
        pair = [response(lam[h], B[h, :, 0], C[h, 0]) for lam, B, C in (full, small)]
        error = float((pair[0] - pair[1]).abs().max())
        assert error <= t.systems[h].error_bound * (1 + 1e-6) + 1e-9
        assert error > 1e-3 * t.systems[h].error_bound
    assert t.error_bound == max(one.error_bound for one in t.systems)


@pytest.mark.parametrize("n_ssm", [1, 4])
def test_modes_that_stay_keep_their_bits(n_ssm):
    ssm = layer(n_ssm=n_ssm)
    before = {name: ssm._of_channels(p.detach()).clone() for name, p in ssm.named_parameters()
              if p.ndim == 2}  # fmt: skip
    (t,) = truncate(torch.nn.Sequential(ssm), state_dims=2, method="last")
    for name, value in before.items():
        assert torch.equal(getattr(ssm, name), value.take_along_dim(t.modes, 1))


@pytest.mark.parametrize("options", VARIANTS)
def test_moments_follow_the_adjoint_in_every_channel(options):
    torch.manual_seed(3)
    model = torch.nn.Sequential(layer(4, 4, dt_min=0.05, dt_max=0.5, **options).double())
    ssm = model[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(2, 9, 4, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    own = options["n_ssm"] == 4
    names = ("B_re", "B_im", "C_re", "C_im") if own else ("C_re", "C_im")
    before = ssm.input_scale()
    g = {name: torch.randn_like(getattr(ssm, name)) for name in names}
    for name in names:
        optimizer.state[getattr(ssm, name)]["exp_avg"] = g[name]
    (t,) = truncate(model, state_dims=[(2, 1, 4, 3)], optimizer=optimizer)
    after = ssm.input_scale()
    reduced = [getattr(ssm, name).detach().requires_grad_() for name in names]

    def matrices(M, K, value):
        found = (M @ value[:, :, None])[..., 0]
        return found if K is None else found + (K @ value.conj()[:, :, None])[..., 0]

    C = torch.complex(*reduced[-2:])
    full = {"C": matrices(t.W.mT, t.W_conj.mH, C)}
    if own:
        B = torch.complex(*reduced[:2])
        full["B"] = matrices(t.T, t.T_conj, after * B) / before
    given = sum(
        (g[name] * (full[name[0]].real if name.endswith("re") else full[name[0]].imag)).sum()
        for name in names
    )
    kept = t.kept
    for name, wanted in zip(names, torch.autograd.grad(given, reduced), strict=True):
        found = optimizer.state[getattr(ssm, name)]["exp_avg"]
        torch.testing.assert_close(found[kept], wanted[kept])
        assert not bool(found[~kept].any())
    assert bool(optimizer.state.get(ssm.B_re)) == own  # a sum over channels is no one's
    assert not optimizer.state.get(ssm.log_A_real)


@pytest.mark.parametrize("n_ssm", [1, 2, "channels"])
def test_a_truncated_model_comes_back_and_trains_on(n_ssm):
    info = TaskInfo("classification", 3, 12, inputs=2)
    torch.manual_seed(0)
    model = build(ModelSpec(kind="s4d", width=4, state_dim=[5, 3], n_ssm=n_ssm), info)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    truncate(model, state_dims=[(2, 3, 1, 2), 3], optimizer=optimizer)
    assert model.layers[1].own_systems is None  # which kept its size
    x = torch.randn(5, 12, 2)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    padding = ~(torch.arange(3) < model.layers[0].orders[:, None])
    assert not bool(model.layers[0].C_re.grad[padding].any())
    again = rebuild(describe(model.eval()), model.state_dict())
    assert torch.equal(again(x), model(x))
    fresh = build(model.spec, info)
    assert [len(one.A_imag) for one in again.layers] == [4, len(fresh.layers[1].A_imag)]
    # And back again, to weights from before.
    again.resize([5, 3])
    stored = fresh.state_dict()
    for i, one in enumerate(again.layers):
        prefix = f"blocks.{i}.ssm."
        one.expect([name.removeprefix(prefix) for name in stored if name.startswith(prefix)])
    again.load_state_dict(stored)
    assert torch.equal(again(x), fresh.eval()(x))


def test_spectra_are_of_every_channel():
    ssm = layer(4, 3)
    ((hsv, shares),) = spectra(torch.nn.Sequential(ssm))
    assert hsv.shape == shares.shape == (12,)
    torch.testing.assert_close(hsv.view(4, 3).sum(1), shares.view(4, 3).sum(1))
    assert bool((hsv.view(4, 3).diff(dim=1) <= 0).all())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_ssm": 3}, "width 4 is not divisible by n_ssm 3"),
        ({"init": "dfout_1"}, "init dfout_1 needs n_ssm 'channels'"),
        ({"init": "legs"}, r"init\s+Input should be 'legs_1'"),
        ({"dt_max": 1e-4}, "dt_max 0.0001 must not be below dt_min 0.001"),
        ({"backend": "triton"}, r"backend\s+Input should be 'auto'"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(kind="s4d", width=4, **fields)
