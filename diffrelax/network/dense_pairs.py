"""What the network sees of a geometry: radial functions times spherical harmonics of all pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffrelax.network.sphere import spherical_harmonics

SHORTEST = 0.7  # Å; no two atoms of a molecule come closer


class PairBasis(nn.Module):
    """Expand all pairs of atoms in radial functions times real spherical harmonics.

    The radial functions are Gaussians in the logarithm of the distance, fine for bonds and coarse
    for far pairs, times a polynomial cutoff (Gasteiger et al. 2020, eq. 8, p = 6).

    Parameters
    ----------
    radial, coarse : int
        Number of radial functions for the messages of scalars, and for those of tensors.
    cutoff : float, Å
    """

    centres: Tensor
    coarse_centres: Tensor

    def __init__(self, radial: int, coarse: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        ends = (math.log(SHORTEST), math.log(cutoff))
        self.register_buffer("centres", torch.linspace(*ends, radial), persistent=False)
        self.register_buffer("coarse_centres", torch.linspace(*ends, coarse), persistent=False)

    def forward(self, positions: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """Compute the basis.

        Parameters
        ----------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        real : (n_molecules, n_atoms) bool tensor
            Where there is an atom.

        Returns
        -------
        tuple of three (n_molecules, (2 l + 1) n_atoms, n_atoms n_radial) tensors, l = 0, 1, 2
            Rows are (component, receiving atom), columns (sending atom, radial function), so
            that gathering messages is one matrix product.
        (n_molecules, n_atoms, n_atoms n_coarse) tensor
            The same for l = 0 with the coarse radial functions.
        """
        n_atoms = real.shape[1]
        vectors = positions[:, None, :, :] - positions[:, :, None, :]
        distances = vectors.square().sum(-1).add(1e-12).sqrt()
        pairs = real[:, :, None] & real[:, None, :]
        pairs = pairs & ~torch.eye(n_atoms, dtype=torch.bool, device=real.device)
        x = (distances / self.cutoff).clamp(max=1.0)
        envelope = (1 - 28 * x**6 + 48 * x**7 - 21 * x**8) * pairs
        logs = distances.clamp(min=0.1).log()
        radial = _gaussians(logs, self.centres) * envelope[..., None]
        coarse = _gaussians(logs, self.coarse_centres) * envelope[..., None]
        harmonics = spherical_harmonics(vectors)
        harmonics = harmonics.permute(0, 3, 1, 2).contiguous()
        full = (harmonics[..., None] * radial[:, None]).flatten(3)
        return (
            *(block.flatten(1, 2) for block in full.split((1, 3, 5), dim=1)),
            coarse.flatten(2),
        )


def _gaussians(logs: Tensor, centres: Tensor) -> Tensor:
    width = centres[1] - centres[0]
    return torch.exp(-0.5 * ((logs[..., None] - centres) / width) ** 2)
