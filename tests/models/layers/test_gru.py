"""What is a GRU's own."""

import torch
from torch.nn.functional import linear

from harness.models import GRU


def layer():
    torch.manual_seed(0)
    return GRU(4, 3)


def test_it_is_the_gated_recurrence_by_hand():
    gru = layer().double()
    w = {name: p.detach() for name, p in gru.named_parameters()}
    u, h, outputs = torch.randn(2, 9, 4, dtype=torch.float64), torch.zeros(2, 3).double(), []
    for step in u.unbind(1):
        into = linear(step, w["recurrence.weight_ih_l0"], w["recurrence.bias_ih_l0"]).chunk(3, 1)
        back = linear(h, w["recurrence.weight_hh_l0"], w["recurrence.bias_hh_l0"]).chunk(3, 1)
        reset, update = torch.sigmoid(into[0] + back[0]), torch.sigmoid(into[1] + back[1])
        h = (1 - update) * torch.tanh(into[2] + reset * back[2]) + update * h
        outputs.append(linear(h, w["projection.weight"], w["projection.bias"]))
    torch.testing.assert_close(gru(u), torch.stack(outputs, 1))


@torch.no_grad()
def test_under_bfloat16_products_its_recurrence_stays_in_float32():
    gru, u = layer(), torch.randn(2, 9, 4)
    hidden, _ = gru.recurrence(u)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gru(u), gru.projection(hidden))
    assert not torch.equal(gru(u), gru.projection(hidden.bfloat16().float()))
