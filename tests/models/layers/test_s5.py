"""The S5 layer: its equation, its initialisation, its forms against each other, its truncation."""

import math

import pytest
import torch

from harness.models import build
from harness.models.layers.discretisation import continuous, discretised
from harness.models.layers.hippo import legs, normal_legs
from harness.models.layers.s5 import S5, block_hippo
from harness.models.scans import BACKENDS
from harness.models.scans.triton_scan import unavailable
from harness.reduction import truncate
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.step.optimizer import make_optimizer

EPS = torch.finfo(torch.float32).eps
HERE = [name for name in BACKENDS if name != "triton" or unavailable("cpu") is None]
LENGTHS = (1, 2, 7, 64, 333, 2048)
VARIANTS = [
    {"conj_sym": conj, "bidirectional": both, "discretisation": how}
    for conj in (True, False)
    for both in (True, False)
    for how in ("zoh", "bilinear")
]
SLOW = {"slow": 0.9999, "underflowing": None, "ordinary": 0.9}


def layer(width=3, state_dim=4, seed=0, **options):
    torch.manual_seed(seed)
    return S5(width, state_dim, **options)


def with_memory(ssm, memory):
    """The layer with eigenvalues of this magnitude, or so fast that their powers underflow."""
    with torch.no_grad():
        dt = ssm.log_step.exp()
        ssm.Lambda_re.copy_(-(300.0 if memory is None else -math.log(memory)) / dt)
        ssm.Lambda_im.copy_(torch.linspace(-3.0, 3.0, ssm.state_dim) / dt)
    return ssm


def by_hand(ssm, u):
    """y of (batch, length, H) float64 in plain complex arithmetic, time step by time step."""
    lam = torch.complex(ssm.Lambda_re, ssm.Lambda_im).detach().to(torch.complex128)
    dt = ssm.log_step.detach().double().exp()
    B = torch.complex(ssm.B_re, ssm.B_im).detach().to(torch.complex128)
    C = torch.complex(ssm.C_re, ssm.C_im).detach().to(torch.complex128)
    if ssm.discretisation == "zoh":
        step, into = torch.exp(lam * dt), ((torch.exp(lam * dt) - 1) / lam)[:, None] * B
    else:
        step = (1 + lam * dt / 2) / (1 - lam * dt / 2)
        into = (dt / (1 - lam * dt / 2))[:, None] * B
    factor = 2 if ssm.conjugates else 1

    def run(v, C):
        h, out = torch.zeros(len(v), len(lam), dtype=torch.complex128), []
        for u_k in v.unbind(1):
            h = step * h + u_k.to(torch.complex128) @ into.mT
            out.append(factor * (h @ C.mT).real)
        return torch.stack(out, 1)

    ahead, *behind = C.chunk(2) if ssm.bidirectional else (C,)
    y = run(u, ahead)
    for one in behind:
        y = y + run(u.flip(1), one).flip(1)
    return y + ssm.D.detach().double() * u


def apart(ours, exact):
    assert ours.shape == exact.shape
    return float((ours.detach().double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("options", VARIANTS)
def test_forward_is_the_equation(options):
    ssm = layer(**options).double()
    u = torch.randn(2, 19, 3, dtype=torch.float64)
    assert apart(ssm(u), by_hand(ssm, u)) < 1e-13


@pytest.mark.parametrize("memory", SLOW)
@pytest.mark.parametrize("options", VARIANTS[::3] + VARIANTS[1:2])
def test_every_form_at_every_length(options, memory):
    """Each backend, and steps, against the equation: 1e-10 in float64, in float32 as the scans."""
    for length in LENGTHS:
        u = torch.randn(1, length, 3, dtype=torch.float64)
        for backend in HERE:
            ssm = with_memory(layer(**options, backend=backend), SLOW[memory])
            exact = by_hand(ssm, u)
            assert apart(ssm(u.float()), exact) < 2e-4, (backend, length)
            assert apart(ssm.double()(u), exact) < 1e-10, (backend, length)
        if not ssm.bidirectional:
            assert apart(stepwise(ssm, u), exact) < 1e-10


def stepwise(ssm, u):
    state, out = ssm.initial_state(len(u)), []
    for u_k in u.unbind(1):
        y, state = ssm.step(u_k, state)
        out.append(y)
    return torch.stack(out, 1)


@pytest.mark.parametrize("memory", SLOW)
@pytest.mark.parametrize("options", VARIANTS)
def test_every_form_after_a_truncation(options, memory):
    ssm = with_memory(layer(width=3, state_dim=6, **options), SLOW[memory])
    truncate(torch.nn.Sequential(ssm), state_dims=3)
    assert ssm.state_dim <= 3
    for length in (1, 97, 2048):
        u = torch.randn(1, length, 3, dtype=torch.float64)
        exact = by_hand(ssm, u)
        assert apart(ssm(u.float()), exact) < 2e-4
        if not ssm.bidirectional:
            assert apart(stepwise(ssm, u.float()), exact) < 2e-4


@pytest.mark.parametrize("backend", ["toeplitz", "scan"])
@pytest.mark.parametrize("options", VARIANTS)
def test_gradients_against_finite_differences(options, backend):
    ssm = layer(2, 2, dt_min=0.05, dt_max=0.5, backend=backend, **options).double()
    names = [name for name, _ in ssm.named_parameters()]
    u = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)

    def function(u, *values):
        return torch.func.functional_call(ssm, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *ssm.parameters()))


@pytest.mark.parametrize("options", VARIANTS)
def test_system_is_what_forward_uses(options):
    ssm = layer(**options).double()
    lam, B, C = ssm.system()
    outputs = 6 if ssm.bidirectional else 3
    assert (lam.shape, B.shape, C.shape) == ((4,), (4, 3), (outputs, 4))
    impulse = torch.zeros(3, 9, 3, dtype=torch.float64)
    impulse[range(3), 4, range(3)] = 1.0
    found = ssm(impulse).detach() - ssm.D.detach() * impulse
    for k in range(5):
        wanted = ((C[:3] * lam**k) @ B).real
        if k == 0 and ssm.bidirectional:
            wanted = wanted + (C[3:] @ B).real
        torch.testing.assert_close(found[:, 4 + k].mT, wanted, rtol=0, atol=1e-13)
        if k and ssm.bidirectional:
            wanted = ((C[3:] * lam**k) @ B).real
            torch.testing.assert_close(found[:, 4 - k].mT, wanted, rtol=0, atol=1e-13)


def test_half_of_the_conjugates_are_the_whole():
    """The stored half with its factor 2, against all P states with their own B and C."""
    half = layer(conj_sym=True).double()
    whole = layer(state_dim=8, conj_sym=False).double()
    with torch.no_grad():
        for name in half.state_axes:
            axis, value = half.state_axis(name), getattr(half, name)
            other = -value if name.endswith("_im") else value
            getattr(whole, name).copy_(torch.cat([value, other], axis))
        whole.D.copy_(half.D)
    u = torch.randn(2, 30, 3, dtype=torch.float64)
    assert apart(half(u), whole(u).detach()) < 1e-13


def test_hippo_is_normal_but_for_one_rank():
    n = 8
    by_definition = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for k in range(i + 1):
            root = math.sqrt((2 * i + 1) * (2 * k + 1))
            by_definition[i, k] = -(i + 1) if i == k else -root
    torch.testing.assert_close(legs(n), by_definition)
    p = torch.sqrt(torch.arange(n).double() + 0.5)
    lam, V = normal_legs(n)
    normal = (by_definition + torch.outer(p, p)).to(V.dtype)
    torch.testing.assert_close((V * lam) @ V.mH, normal, rtol=0, atol=1e-12)
    torch.testing.assert_close(V.mH @ V, torch.eye(n, dtype=V.dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close(lam.imag, -lam.imag.flip(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("halved", [True, False])
def test_blocks_lie_along_the_diagonal(halved):
    lam, V = block_hippo(6, 3, halved)
    one, U = normal_legs(4 if halved else 2)
    assert torch.equal(lam, one[:2].repeat(3))
    size = len(one)
    for j in range(3):
        assert torch.equal(V[j * size : (j + 1) * size, 2 * j : 2 * j + 2], U[:, :2])
    assert int((V != 0).sum()) == 3 * int((U[:, :2] != 0).sum())


@pytest.mark.parametrize(
    ("c_init", "deviation"),
    [
        ("trunc_standard_normal", math.sqrt(1 / 64)),
        ("lecun_normal", math.sqrt(1 / (64 * 40))),  # as the authors' library takes its inputs
        ("complex_normal", math.sqrt(0.5)),
    ],
)
def test_the_initial_distributions(c_init, deviation):
    ssm = layer(40, 32, c_init=c_init, hippo_blocks=4, dt_min=0.01, dt_max=0.2)
    assert ssm.C_re.std().item() == pytest.approx(deviation, rel=0.1)
    assert ssm.C_im.std().item() == pytest.approx(deviation, rel=0.1)
    # B is real before the change of basis: V^H B keeps the norm over both halves of the pairs.
    total = 2 * (ssm.B_re.square() + ssm.B_im.square()).sum().item()
    assert total == pytest.approx(40 * 64 / 64, rel=0.15)
    steps = ssm.log_step.detach().exp()
    assert 0.01 <= float(steps.min()) < 0.02
    assert 0.1 < float(steps.max()) <= 0.2
    assert torch.equal(ssm.Lambda_re, torch.full((32,), -0.5))


@pytest.mark.parametrize("how", ["zoh", "bilinear"])
def test_discretisation_has_an_inverse_and_keeps_the_slowest_state(how):
    lam = torch.tensor([-0.5 + 3j, -1e-9 + 1j, -2.0, -40 + 900j], dtype=torch.complex128)
    dt = torch.tensor([0.01, 0.001, 0.3, 0.003], dtype=torch.float64)
    found = discretised(lam, dt, how)
    torch.testing.assert_close(continuous(found.eigenvalues, how), lam * dt, rtol=1e-9, atol=1e-12)
    assert float(found.nu[1]) == pytest.approx(1e-12, rel=1e-5)  # below what 1 - |lambda| holds
    assert bool((found.theta.abs() <= math.pi).all())


@pytest.mark.parametrize("options", VARIANTS)
def test_assign_takes_over_a_system_of_another_size(options):
    ssm, other = layer(**options), layer(state_dim=2, seed=1, **options)
    step = float(ssm.log_step.mean().exp())
    names, D = list(dict(ssm.named_parameters())), ssm.D
    ssm.assign(*other.system())
    assert ssm.state_dim == 2
    assert ssm.D is D
    assert list(dict(ssm.named_parameters())) == names
    for ours, theirs in zip(ssm.system(), other.system(), strict=True):
        assert float((ours - theirs).abs().max()) <= 50 * EPS * float(theirs.abs().max())
    torch.testing.assert_close(ssm.log_step.exp(), torch.full((2,), step))


@pytest.mark.parametrize("how", ["zoh", "bilinear"])
@pytest.mark.parametrize(
    "eigenvalue", [0.9, -0.9, 0.9j, 0.5 - 1e-9j, 0.0, 1e-300, 1 - 1e-9, -0.999], ids=str
)
def test_assign_takes_every_stable_eigenvalue(eigenvalue, how):
    ssm = layer(state_dim=1, discretisation=how)
    exact = torch.tensor([eigenvalue], dtype=torch.complex128)
    _, B, C = ssm.system()
    ssm.assign(exact, B, C)
    ours = ssm.system()[0]
    assert float((ours - exact).abs()) < 50 * EPS
    distance, wanted = 1 - float(ours.abs()), 1 - abs(eigenvalue)
    assert distance == pytest.approx(wanted, rel=1e-4)
    out = ssm(torch.randn(2, 40, 3))
    out.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in ssm.parameters())


def test_clipped_eigenvalues_stay_stable_wherever_they_are_trained_to():
    for how in ("zoh", "bilinear"):
        for clip, stable in ((True, True), (False, False)):
            ssm = layer(clip_eigs=clip, discretisation=how)
            with torch.no_grad():
                ssm.Lambda_re[1] = 0.3
            assert bool((ssm.system()[0].abs() < 1).all()) == stable


@pytest.mark.parametrize("dt_global", [True, False])
def test_its_groups_are_the_authors(dt_global):
    info = TaskInfo("classification", 3, 8, inputs=1)
    model = build(ModelSpec(kind="s5", width=4, state_dim=4, dt_global=dt_global), info)
    groups = make_optimizer(model, TrainingSpec(lr=0.01, weight_decay=0.05)).param_groups
    slow = {id(p) for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}
    ssm = model.blocks[0].ssm
    found = {name for name, p in ssm.named_parameters() if id(p) in slow}
    own = {"Lambda_re", "Lambda_im", "B_re", "B_im"}
    assert found == own | (set() if dt_global else {"log_step"})


@pytest.mark.parametrize("conj_sym", [True, False])
def test_moments_follow_the_adjoint_of_the_change_of_basis(conj_sym):
    """Against autograd through the map from reduced to full parameters, whatever is trained."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(layer(3, 6, conj_sym=conj_sym, dt_min=0.05, dt_max=0.5).double())
    ssm = model[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ssm(torch.randn(2, 9, 3, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    names = ("B_re", "B_im", "C_re", "C_im")
    before = ssm.input_scale()
    g = {name: torch.randn_like(getattr(ssm, name)) for name in names}
    v = {name: torch.rand_like(getattr(ssm, name)) for name in names}
    for name in names:
        optimizer.state[getattr(ssm, name)] |= {"exp_avg": g[name], "exp_avg_sq": v[name]}
    (t,) = truncate(model, state_dims=3, optimizer=optimizer)
    after = ssm.input_scale()
    assert bool((t.eigenvalues.imag != 0).any())

    def full(B_re, B_im, C_re, C_im):
        B, C = after[:, None] * torch.complex(B_re, B_im), torch.complex(C_re, C_im)
        into, out = t.T @ B, C @ t.W
        if t.T_conj is not None:
            into, out = into + t.T_conj @ B.conj(), out + C.conj() @ t.W_conj.conj()
        into = into / before[:, None]
        return into.real, into.imag, out.real, out.imag

    reduced = [getattr(ssm, name).detach().requires_grad_() for name in names]
    given = sum((g[name] * part).sum() for name, part in zip(names, full(*reduced), strict=True))
    wanted = torch.autograd.grad(given, reduced)
    jacobians = torch.autograd.functional.jacobian(full, tuple(p.detach() for p in reduced))
    for i, name in enumerate(names):
        state = optimizer.state[getattr(ssm, name)]
        torch.testing.assert_close(state["exp_avg"], wanted[i])
        variance = sum(
            torch.tensordot(v[other], jacobians[j][i].square(), dims=2)
            for j, other in enumerate(names)
        )
        torch.testing.assert_close(state["exp_avg_sq"], variance)
        assert float(state["step"]) == 1.0
    assert not optimizer.state.get(ssm.Lambda_re)


@pytest.mark.parametrize("how", ["zoh", "bilinear"])
def test_a_real_pole_stays_real_in_training(how):
    """Of a stored state whose pole, B and C are real, nothing imaginary has a gradient. (A negative
    pole has a phase of pi, which no number is, and may become one of a pair.)"""
    ssm = layer(2, 2, discretisation=how)
    lam = torch.tensor([0.9, 0.5], dtype=torch.complex128)
    ssm.assign(lam, *torch.randn(2, 2, 2).to(torch.complex128))
    before = ssm.system()[0]
    optimizer = torch.optim.AdamW(ssm.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        ssm(torch.randn(3, 20, 2)).square().sum().backward()
        optimizer.step()
    after = ssm.system()
    assert not bool(ssm.C_im.any())
    assert not bool(after[0].imag.any())
    assert bool((after[0] != before).all())


def test_a_bidirectional_layer_has_no_recurrent_mode_and_no_gain():
    ssm = layer(state_dim=4, bidirectional=True)
    with pytest.raises(ValueError, match="a bidirectional S5 has no recurrent mode"):
        ssm.initial_state(1)
    with pytest.raises(ValueError, match="block 0: a bidirectional S5 takes no static gain"):
        truncate(torch.nn.Sequential(ssm), state_dims=2, method="singular_perturbation")
    assert ssm.state_dim == 4


@pytest.mark.parametrize("conj_sym", [True, False])
def test_both_directions_are_within_root_two_of_the_bound(conj_sym):
    """The layer's own response on the circle: the backward direction is that at conj(z)."""
    ssm = layer(3, 8, bidirectional=True, conj_sym=conj_sym, dt_min=0.05, dt_max=0.5).double()
    full = ssm.system()
    (t,) = truncate(torch.nn.Sequential(ssm), state_dims=3)
    z = torch.exp(1j * torch.linspace(0, 2 * math.pi, 300, dtype=torch.float64))

    def both(lam, B, C):
        """sum over k of Re(C1 lam^k B) z^-k and of Re(C2 lam^k B) z^k."""
        total = 0
        for half, points in ((C[:3], z), (C[3:], z.conj())):
            for one, into, out in ((lam, B, half), (lam.conj(), B.conj(), half.conj())):
                at = points[:, None, None]
                total = total + at * ((out / (at - one)) @ into) / 2
        return total

    error = torch.linalg.matrix_norm(both(*full) - both(*ssm.system()), ord=2).max()
    assert float(error) <= math.sqrt(2) * t.error_bound
    assert float(error) > 0.01 * t.error_bound
