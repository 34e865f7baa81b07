from __future__ import annotations

import pytest
import torch
from torch import nn

from diffrelax.training.muon import MuonAdamW, orthogonal

OPTIONS = {"weight_decay": 0.1, "betas": (0.9, 0.98), "fused": True}


def with_state(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["lr"] = 0.01
        for parameter in group["params"]:
            zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.zeros(()), **zeros}
    return optimizer


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 16), (2, 16, 4)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = 100 * torch.randn(shape)
    made = orthogonal(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ made @ right.mT
    torch.testing.assert_close(found, torch.diag_embed(found.diagonal(dim1=1, dim2=2)), atol=1e-3,
                               rtol=0)  # fmt: skip
    assert found.diagonal(dim1=1, dim2=2).min() > 0.6
    assert found.diagonal(dim1=1, dim2=2).max() < 1.3


def test_a_step_goes_against_all_gradients_alike_and_others_are_those_of_adamw() -> None:
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(4, 4)) for _ in range(2)]
    one, same = (nn.Parameter(torch.ones(5)) for _ in range(2))
    before = [matrix.detach().clone() for matrix in matrices]
    gradients = [torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])), torch.randn(4, 4)]
    for matrix, gradient in zip(matrices, gradients, strict=True):
        matrix.grad = gradient.clone()
    one.grad, same.grad = torch.full((5,), 3.0), torch.full((5,), 3.0)
    with_state(MuonAdamW(matrices, [one], **OPTIONS)).step()
    with_state(torch.optim.AdamW([same], **OPTIONS)).step()
    assert torch.equal(one, same)
    for matrix, start, gradient in zip(matrices, before, gradients, strict=True):
        step = matrix - (1 - 0.01 * 0.1) * start
        expected = -0.01 * 0.2 * 2 * orthogonal(gradient[None])[0]
        torch.testing.assert_close(step, expected, atol=2e-4, rtol=0)
    assert torch.linalg.matrix_norm(matrices[0] - before[0], 2) < 0.01
