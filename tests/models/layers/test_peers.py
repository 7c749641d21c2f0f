"""Development tests: layers against implementations by others, weights copied over.

These need packages that the harness does not; they are skipped where those are absent. To run them:

    pip install mambapy "discretax==0.3.0" "jax[cpu]"
    python -m pytest tests/models/layers/test_peers.py

Not comparable: `mambapy.mamba2`, which imports CUDA-only `mamba_ssm` (transformers' slow path is in
`test_mamba2.py`); S5 in both directions, S4D with bilinear steps or with systems shared by
channels, which discretax has not.
"""

import numpy as np
import pytest
import torch

from harness.models import Mamba
from harness.models.layers.s4d import S4D
from harness.models.layers.s5 import S5

TOLERANCE = 1e-5
U = torch.randn(2, 333, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mambapy():
    """Its module of Mamba-1."""
    return pytest.importorskip("mambapy.mamba", reason="pip install mambapy")


@pytest.fixture
def mixers():
    """discretax's sequence mixers, in double precision."""
    why = 'pip install "discretax==0.3.0" "jax[cpu]"'
    jax = pytest.importorskip("jax", reason=why)
    pytest.importorskip("discretax", reason=why)
    import discretax.sequence_mixers.s4d
    import discretax.sequence_mixers.s5

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield discretax.sequence_mixers
    jax.config.update("jax_enable_x64", before)


def relative(ours, theirs):
    ours, theirs = (torch.as_tensor(np.asarray(one.detach())) for one in (ours, theirs))
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("pscan", [True, False], ids=["parallel", "sequential"])
def test_mamba_is_mambapys(mambapy, pscan):
    """Outputs and gradients; theirs computes A and D in float32, so that ours are rounded too."""
    torch.manual_seed(0)
    ours = Mamba(8, 4, dt_rank=2).double()
    p = dict(ours.named_parameters())
    config = mambapy.MambaConfig(d_model=8, n_layers=1, dt_rank=2, d_state=4, pscan=pscan)
    theirs = mambapy.MambaBlock(config).double()
    x_proj = torch.cat([p["dt_down"], p["B_proj"], p["C_proj"]])
    pairs = {
        "in_proj.weight": p["in_proj"],
        "conv1d.weight": p["conv_weight"][:, None],
        "conv1d.bias": p["conv_bias"],
        "x_proj.weight": x_proj,
        "dt_proj.weight": p["dt_up"],
        "dt_proj.bias": p["dt_bias"],
        "A_log": p["A_log"],
        "D": p["D"],
        "out_proj.weight": p["out_proj"],
    }
    assert pairs.keys() == dict(theirs.named_parameters()).keys()
    with torch.no_grad():
        for name, value in pairs.items():
            theirs.get_parameter(name).copy_(value)
    y, wanted = ours(U), theirs(U)
    assert relative(y, wanted) < TOLERANCE
    y.square().sum().backward()
    wanted.square().sum().backward()
    for name in ("A_log", "D"):
        assert relative(p[name].grad, theirs.get_parameter(name).grad) < TOLERANCE
    of_x_proj = torch.cat([p[name].grad for name in ("dt_down", "B_proj", "C_proj")])
    assert relative(of_x_proj, theirs.x_proj.weight.grad) < TOLERANCE


def with_values(module, **values):
    """A module of equinox with other arrays in it."""
    import equinox

    arrays = [np.asarray(value.detach()) for value in values.values()]
    old = [getattr(module, name).shape for name in values]
    assert old == [array.shape for array in arrays]
    return equinox.tree_at(lambda m: [getattr(m, name) for name in values], module, arrays)


@pytest.mark.parametrize("how", ["zoh", "bilinear"])
@pytest.mark.parametrize("conj_sym", [True, False])
def test_s5_is_discretaxs(mixers, conj_sym, how):
    import jax

    torch.manual_seed(0)
    ours = S5(8, 12, conj_sym=conj_sym, hippo_blocks=2, discretisation=how).double()
    states = 24 if conj_sym else 12
    theirs = mixers.s5.S5SequenceMixer(
        8, jax.random.key(0), state_dim=states, ssm_blocks=2, conj_sym=conj_sym, discretization=how
    )
    # The initial eigenvalues are a fact of HiPPO, which both work out for themselves.
    for name, value in (("Lambda_re", ours.Lambda_re), ("Lambda_im", ours.Lambda_im)):
        found, wanted = np.sort(np.asarray(getattr(theirs, name))), value.detach().sort().values
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    p = dict(ours.named_parameters())
    theirs = with_values(
        theirs,
        Lambda_re=p["Lambda_re"],
        Lambda_im=p["Lambda_im"],
        B=torch.stack([p["B_re"], p["B_im"]], -1),
        C=torch.stack([p["C_re"], p["C_im"]], -1),
        D=p["D"],
        log_step=p["log_step"][:, None],
    )
    wanted = [np.asarray(theirs(one.numpy(), jax.random.key(0))) for one in U]
    assert relative(ours(U), torch.from_numpy(np.stack(wanted))) < TOLERANCE


@pytest.mark.parametrize("backend", ["reference", "fft", "blocks"])
def test_s4d_is_discretaxs(mixers, backend):
    """Theirs has no D x, and B is 1 there: C stands for both."""
    import equinox
    import jax

    torch.manual_seed(0)
    ours = S4D(8, 6, n_ssm=8, init="legs_1", backend=backend).double()
    p = dict(ours.named_parameters())
    theirs = mixers.s4d.S4DSequenceMixer(8, jax.random.key(0), state_dim=12)
    C = torch.complex(p["C_re"], p["C_im"]) * torch.complex(p["B_re"], p["B_im"])
    kernel = with_values(
        theirs.kernel, C=C, log_dt=p["log_dt"], log_a_real=p["log_A_real"], A_imag=p["A_imag"]
    )
    theirs = equinox.tree_at(lambda m: m.kernel, theirs, kernel)
    wanted = [np.asarray(theirs(one.numpy(), jax.random.key(0))) for one in U]
    assert relative(ours(U) - p["D"] * U, torch.from_numpy(np.stack(wanted))) < TOLERANCE
