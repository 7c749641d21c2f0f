"""Development tests: layers against implementations of others, with weights copied over.

They are skipped where a library is absent, as in `make test`. With them, in an environment that
has the harness: `pip install mambapy` for Mamba; `pip install discretax` for S5 and S4D (with JAX
for a CPU; it asks for Python 3.12, and runs on 3.11 under `--ignore-requires-python`). Against
transformers see test_mamba.py and test_mamba2.py.
"""

import numpy as np
import pytest
import torch

from harness.models.layers.mamba import Mamba
from harness.models.layers.s4d import S4D
from harness.models.layers.s5 import S5

H, BATCH, LENGTH, CLOSE = 6, 3, 50, 1e-5


def inputs():
    return torch.randn(BATCH, LENGTH, H, dtype=torch.float64)


@pytest.mark.parametrize("pscan", [True, False])
@torch.no_grad()
def test_mamba_against_mambapy(pscan):
    theirs = pytest.importorskip("mambapy.mamba")
    torch.manual_seed(0)
    ours = Mamba(H, 4, dt_rank=2).double()
    config = theirs.MambaConfig(d_model=H, n_layers=1, d_state=4, dt_rank=2, pscan=pscan)
    block = theirs.MambaBlock(config).double()
    p = dict(ours.named_parameters())
    p["D"].normal_()
    p["A_log"].normal_()
    block.in_proj.weight.copy_(p["in_proj"])
    block.conv1d.weight.copy_(p["conv_weight"][:, None])
    block.conv1d.bias.copy_(p["conv_bias"])
    block.x_proj.weight.copy_(torch.cat([p["dt_down"], p["B_proj"], p["C_proj"]]))
    block.dt_proj.weight.copy_(p["dt_up"])
    block.dt_proj.bias.copy_(p["dt_bias"])
    block.A_log.copy_(p["A_log"])
    block.D.copy_(p["D"])
    block.out_proj.weight.copy_(p["out_proj"])
    u = inputs()
    torch.testing.assert_close(block(u), ours(u), rtol=CLOSE, atol=CLOSE)


def jax_of(name):
    """A module of discretax, with jax in double precision, and what replaces parts of a layer."""
    module = pytest.importorskip(f"discretax.sequence_mixers.{name}")
    import equinox
    import jax

    jax.config.update("jax_enable_x64", True)
    return module, equinox, jax


def answers(jax, layer, u):
    """Their layer on a batch, one sequence at a time."""
    key = jax.random.PRNGKey(0)
    outputs = [np.asarray(layer(jax.numpy.asarray(one.numpy()), key)) for one in u]
    return torch.from_numpy(np.stack(outputs))


def halves(layer, name):
    """A complex parameter as they have it, (..., 2)."""
    return np.stack([layer.get_parameter(f"{name}_{part}").numpy() for part in ("re", "im")], -1)


@pytest.mark.parametrize("conj_sym", [True, False])
@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
@torch.no_grad()
def test_s5_against_discretax(conj_sym, discretisation):
    module, equinox, jax = jax_of("s5")
    torch.manual_seed(0)
    ours = S5(H, 4, conj_sym=conj_sym, discretisation=discretisation).double()
    theirs = module.S5SequenceMixer(
        H,
        jax.random.PRNGKey(1),
        state_dim=8 if conj_sym else 4,
        conj_sym=conj_sym,
        discretization=discretisation,
    )
    parts = {
        "Lambda_re": ours.Lambda_re.numpy(),
        "Lambda_im": ours.Lambda_im.numpy(),
        "B": halves(ours, "B"),
        "C": halves(ours, "C"),
        "D": ours.D.numpy(),
        "log_step": ours.log_step.numpy()[:, None],
    }
    for name, value in parts.items():
        theirs = equinox.tree_at(
            lambda one, n=name: getattr(one, n), theirs, jax.numpy.array(value)
        )
    u = inputs()
    torch.testing.assert_close(answers(jax, theirs, u), ours(u), rtol=CLOSE, atol=CLOSE)


@torch.no_grad()
def test_s4d_against_discretax():
    """Theirs has a B of ones, and no D."""
    module, equinox, jax = jax_of("s4d")
    torch.manual_seed(0)
    ours = S4D(H, 4, n_ssm=H, init="lin_1").double()
    ours.get_parameter("D").zero_()
    theirs = module.S4DSequenceMixer(H, jax.random.PRNGKey(1), state_dim=8)
    C = torch.complex(ours.get_parameter("C_re"), ours.get_parameter("C_im"))
    parts = {
        "C": C.numpy(),
        "log_dt": ours.get_parameter("log_dt").numpy(),
        "log_a_real": ours.log_A_real.numpy(),
        "A_imag": ours.A_imag.numpy(),
    }
    kernel = theirs.kernel
    for name, value in parts.items():
        kernel = equinox.tree_at(
            lambda one, n=name: getattr(one, n), kernel, jax.numpy.array(value)
        )
    theirs = equinox.tree_at(lambda one: one.kernel, theirs, kernel)
    u = inputs()
    torch.testing.assert_close(answers(jax, theirs, u), ours(u), rtol=CLOSE, atol=CLOSE)
