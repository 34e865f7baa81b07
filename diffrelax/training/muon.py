"""The Muon optimizer: the momentum of each matrix is orthogonalized before the step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from diffrelax.training.ranks import share_out

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients, Jordan et al. 2024
SIZE_OF_ADAMW = 0.2  # root mean square step of an entry, in units of the learning rate


class MuonAdamW(torch.optim.AdamW):
    """Muon for some matrices, AdamW for all other parameters, with one learning rate.

    The step of a matrix is its momentum with all singular values made equal, scaled to the usual
    size of an AdamW step (Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025,
    arXiv 2502.16982). Unlike `torch.optim.Muon`, which is slow on CPUs, it treats matrices of the
    same shape together, and not in bfloat16. Parallel processes share the work.

    Parameters
    ----------
    matrices, others : iterable of torch.nn.Parameter
    options
        See `torch.optim.AdamW`.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        weight_decay: float,
        betas: tuple[float, float],
        fused: bool,
    ) -> None:
        groups = [{"params": list(others)}, {"params": list(matrices)}]
        super().__init__(groups, weight_decay=weight_decay, betas=betas, fused=fused)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        group = self.param_groups[1]
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                alike[matrix.shape].append(matrix)
        for shape, matrices in alike.items():
            gradients = torch.stack([matrix.grad for matrix in matrices])  # type: ignore[misc]
            momenta = [self.state[matrix]["exp_avg"] for matrix in matrices]
            torch._foreach_lerp_(momenta, list(gradients), 1 - MOMENTUM)
            ahead = gradients.lerp(torch.stack(momenta), MOMENTUM)
            size = group["lr"] * SIZE_OF_ADAMW * max(shape) ** 0.5
            steps = size * share_out(orthogonal, ahead)
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(matrices, list(steps))
            for matrix in matrices:
                matrix.grad = None
        super().step(closure)


def orthogonal(matrices: Tensor) -> Tensor:
    """Orthogonalize matrices, (k, m, n): their singular values become about 1 (0.7 to 1.2)."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    a, b, c = QUINTIC
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x
