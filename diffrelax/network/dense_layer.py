"""One round of message passing between all atoms.

Features of an atom have degrees l = 0, 1, 2 with the same number of channels; a tensor of
features is (n_molecules, 9, n_atoms, n_channels), the nine components being those of
``0e + 1o + 2e`` in e3nn's order. Products are taken on atoms, not on pairs (Drautz 2019;
Batatia et al. 2022), so all work on pairs is batched matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffrelax.network.layer import begin, rms_norm
from diffrelax.network.sphere import DEGREES


class DenseLayer(nn.Module):
    """Gather messages, multiply them on each atom, update the features.

    Parameters
    ----------
    channels, radial, coarse : int
        See :class:`~diffrelax.network.config.DenseNetworkConfig`.
    """

    values: Tensor
    projection: Tensor

    def __init__(self, channels: int, radial: int, coarse: int) -> None:
        super().__init__()
        self.messages = nn.ModuleList(
            nn.Linear(channels, radial * channels, bias=False) for _ in DEGREES
        )
        self.tensor_messages = nn.ModuleList(
            nn.Linear(channels, coarse * channels, bias=False) for _ in DEGREES[1:]
        )
        self.self_interaction = nn.ModuleList(
            nn.Linear(channels, channels, bias=False) for _ in DEGREES
        )
        self.mixing = nn.ModuleList(nn.Linear(2 * channels, channels, bias=False) for _ in DEGREES)
        self.film = nn.Linear(channels, 2 * channels)
        self.gates = nn.Linear(channels, 3 * channels)
        begin(self, self.film, self.gates)

    def forward(self, x: Tensor, basis: tuple[Tensor, ...], condition: Tensor) -> Tensor:
        """Return the updated features.

        Parameters
        ----------
        x : (n_molecules, 9, n_atoms, n_channels) tensor
        basis : four tensors
            From :class:`~diffrelax.network.dense_pairs.PairBasis`.
        condition : (n_molecules, n_channels) tensor
        """
        a = rms_norm(self._gather(by_degree(rms_norm(x)), basis))
        samples = torch.matmul(self.values, a.flatten(2))
        products = torch.matmul(self.projection, samples.square()).view_as(a)
        both = by_degree(torch.cat([a, products.to(a.dtype)], dim=-1))
        updates = [mix(part) for mix, part in zip(self.mixing, both, strict=True)]
        scale, shift = self.film(condition)[:, None, None, :].chunk(2, dim=-1)
        hidden = functional.silu(updates[0] * (1 + scale) + shift)
        scalars, *gates = self.gates(hidden).chunk(3, dim=-1)
        return x + torch.cat([scalars, updates[1] * gates[0], updates[2] * gates[1]], dim=1)

    def _gather(self, x: tuple[Tensor, ...], basis: tuple[Tensor, ...]) -> Tensor:
        n_molecules, _, n_atoms, channels = x[0].shape
        gathered = []
        for degree, size in enumerate(DEGREES):
            sent = self.messages[degree](x[0]).view(n_molecules, -1, channels)
            a = torch.bmm(basis[degree], sent).view(n_molecules, size, n_atoms, channels)
            a = a + self.self_interaction[degree](x[degree])
            if degree:
                sent = self.tensor_messages[degree - 1](x[degree])
                sent = sent.view(n_molecules, size, -1, channels)
                a = a + torch.matmul(basis[3][:, None], sent)
            gathered.append(a)
        return torch.cat(gathered, dim=1)


def by_degree(x: Tensor) -> tuple[Tensor, ...]:
    """Part features by degree, each contiguous: a matrix then multiplies all atoms at once."""
    return tuple(part.contiguous() for part in x.split(DEGREES, dim=1))
