"""Adam's moments through a truncation, against autograd through the map it stands for.

The reduced parameters are coordinates of full ones: gamma B = T (gamma_r B_r) and C = C_r W. The
gradient in reduced coordinates is then the adjoint of that map, applied to the full gradient.
"""

import pytest
import torch

from harness.reduction import truncate

from .networks import assert_untouched, nested, optimizer_of, snapshot, step

CARRIED = ("B_re", "B_im", "C_re", "C_im")
RESTARTED = ("nu_log", "theta_log", "gamma_log")


def trained(steps=5):
    """A model whose gammas have moved away from the eigenvalues' own, and its optimizer."""
    model = nested()
    optimizer = optimizer_of(model)
    for k in range(steps):
        step(model, optimizer, seed=k)
    with torch.no_grad():
        for layer in (model.front[1], model.deep["inner"][0][0], model.last):
            layer.gamma_log += 0.5 * torch.randn_like(layer.gamma_log)
    return model, optimizer


def parameters(layer):
    return dict(layer.named_parameters())


def objective(B_re, B_im, C_re, C_im):
    """A scalar of the raw B and C, curved, real and imaginary parts treated unlike."""
    return (
        torch.sin(B_re * torch.arange(1.0, 5.0)).sum()
        + (B_im**3).sum()
        + torch.cos(2 * C_re).sum()
        + (C_im.exp() * C_re).sum()
        + (B_re.sum() * C_im.sum())
    )


def full_of(reduced, t, gamma_full, gamma_reduced):
    """The raw full (B_re, B_im, C_re, C_im) that reduced ones are coordinates of; of a real system
    gamma B = T b + T_conj conj(b) with b = gamma_r B_r, and C = C_r W + conj(C_r) conj(W_conj)."""
    B_re, B_im, C_re, C_im = reduced
    b, c = gamma_reduced[:, None] * torch.complex(B_re, B_im), torch.complex(C_re, C_im)
    B, C = t.T @ b, c @ t.W
    if t.T_conj is not None:
        B, C = B + t.T_conj @ b.conj(), C + c.conj() @ t.W_conj.conj()
    B = B / gamma_full[:, None]
    return B.real, B.imag, C.real, C.imag


def double(layer, names):
    return [parameters(layer)[name].detach().double() for name in names]


class Truncated:
    """`model.last` from 5 to 3 states, with moments that the test sets beforehand."""

    def __init__(self, set_moments=lambda state, name: None, **how):
        model, self.optimizer = trained()
        self.model, self.layer = model, model.last
        self.gamma_full = self.layer.gamma_log.detach().double().exp()
        self.before = {
            name: {k: v.clone() for k, v in self.optimizer.state[p].items()}
            for name, p in parameters(self.layer).items()
        }
        for name in CARRIED:
            set_moments(self.optimizer.state[parameters(self.layer)[name]], name)
        (t,) = truncate(model, state_dims=[9, 7, 3], optimizer=self.optimizer, **how)
        self.t, self.T, self.W = t, t.T, t.W
        self.gamma_reduced = self.layer.gamma_log.detach().double().exp()

    def full(self, reduced):
        return full_of(reduced, self.t, self.gamma_full, self.gamma_reduced)

    def state(self, name):
        return self.optimizer.state.get(parameters(self.layer)[name])


def check_moments_follow(**how):
    """The first moments after a truncation are the gradient in the reduced B and C."""
    # Truncating is repeatable, so a first run tells the point at which to take the gradient.
    point = Truncated(**how)
    reduced = [p.requires_grad_() for p in double(point.layer, CARRIED)]
    full = [p.detach().requires_grad_() for p in point.full(reduced)]
    gradients = dict(zip(CARRIED, torch.autograd.grad(objective(*full), full), strict=True))

    def set_moments(state, name):
        state["exp_avg"] = gradients[name].float()

    carried = Truncated(set_moments, **how)
    wanted = torch.autograd.grad(objective(*point.full(reduced)), reduced)
    for name, gradient in zip(CARRIED, wanted, strict=True):
        ours = carried.state(name)["exp_avg"]
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), gradient, rtol=1e-4, atol=1e-5)
        assert float(gradient.abs().max()) > 0.1


def test_the_first_moment_follows_the_adjoint_of_the_change_of_basis():
    check_moments_follow()


def test_the_reduced_parameters_are_coordinates_of_the_projected_system():
    """The map that the gradients follow is the one between the systems: W T = I closes it."""
    t = Truncated()
    B_re, B_im, C_re, C_im = t.full(double(t.layer, CARRIED))
    B = t.gamma_full[:, None] * torch.complex(B_re, B_im)
    _, reduced_B, reduced_C = t.layer.system()
    torch.testing.assert_close(t.W @ B, reduced_B, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.complex(C_re, C_im) @ t.T, reduced_C, rtol=0, atol=1e-5)


def test_second_moments_follow_the_squared_adjoint():
    """Var(sum a_j g_j) = sum a_j^2 Var(g_j) for uncorrelated g, with the Jacobian from autograd."""
    torch.manual_seed(1)
    v = {n: torch.rand_like(p) for n, p in parameters(nested().last).items() if n in CARRIED}

    def set_moments(state, name):
        state["exp_avg_sq"] = v[name].clone()

    t = Truncated(set_moments)
    for names in (CARRIED[:2], CARRIED[2:]):
        others = double(t.layer, CARRIED)
        at = [CARRIED.index(name) for name in names]

        def full_pair(re, im, others=others, at=at):
            given = list(others)
            given[at[0]], given[at[1]] = re, im
            full = t.full(given)
            return torch.stack([full[i] for i in at])

        jacobians = torch.autograd.functional.jacobian(full_pair, tuple(others[i] for i in at))
        variance = torch.stack([v[name].double() for name in names])
        for name, jacobian in zip(names, jacobians, strict=True):
            wanted = torch.tensordot(variance, jacobian.square(), dims=3)
            ours = t.state(name)["exp_avg_sq"].double()
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-7)
            assert bool((ours > 0).all())


def test_the_step_count_goes_on_apart_for_each_parameter():
    t = Truncated()
    for name in CARRIED:
        assert float(t.state(name)["step"]) == 5.0
    step(t.model, t.optimizer, seed=9)
    for name in (*CARRIED, "D"):
        assert float(t.state(name)["step"]) == 6.0
    for name in RESTARTED:
        assert float(t.state(name)["step"]) == 1.0


def test_what_restarts_does_so_with_its_own_bias_correction():
    """Adam's first step is lr x g / (|g| + eps), whatever the size of the gradient."""
    t = Truncated()
    assert all(t.state(name) is None for name in RESTARTED)
    before = {name: p.detach().clone() for name, p in parameters(t.layer).items()}
    step(t.model, t.optimizer, seed=9)
    lr = next(g["lr"] for g in t.optimizer.param_groups if g["label"] == "ssm")
    for name in RESTARTED:
        p = parameters(t.layer)[name]
        wanted = before[name] - lr * p.grad / (p.grad.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), wanted, rtol=1e-6, atol=1e-8)


def test_a_carried_step_continues_the_moments():
    """The next step of B is Adam's sixth on the carried moments."""
    t = Truncated()
    m, v = (t.state("B_re")[k].clone() for k in ("exp_avg", "exp_avg_sq"))
    before = t.layer.B_re.detach().clone()
    step(t.model, t.optimizer, seed=9)
    lr = next(g["lr"] for g in t.optimizer.param_groups if g["label"] == "ssm")
    g = t.layer.B_re.grad
    m, v = (0.9 * m + 0.1 * g) / (1 - 0.9**6), (0.999 * v + 0.001 * g**2) / (1 - 0.999**6)
    torch.testing.assert_close(t.layer.B_re.detach(), before - lr * m / (v.sqrt() + 1e-8))


def test_reset_empties_all_of_the_layer_but_what_has_no_states():
    t = Truncated(moments="reset")
    assert all(t.state(name) is None for name in (*CARRIED, *RESTARTED))
    assert all(torch.equal(t.state("D")[k], t.before["D"][k]) for k in t.before["D"])
    step(t.model, t.optimizer, seed=9)
    assert {float(t.state(name)["step"]) for name in (*CARRIED, *RESTARTED)} == {1.0}


@pytest.mark.parametrize("moments", ["transport", "reset"])
def test_other_layers_keep_theirs(moments):
    model, optimizer = trained()
    before = snapshot(model, optimizer)
    truncate(model, state_dims=[9, 7, 3], optimizer=optimizer, moments=moments)
    others = {name for name in before[0] if not name.startswith("last.") or name == "last.D"}
    assert len(others) == 2 + 2 * 8 + 1
    assert_untouched(model, before, optimizer, names=others)


def test_before_the_first_step_there_is_nothing_to_carry():
    model = nested()
    optimizer = optimizer_of(model)
    truncate(model, state_dims=3, optimizer=optimizer)
    assert not optimizer.state
    step(model, optimizer)
