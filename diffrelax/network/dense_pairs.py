"""What the network sees of a geometry: radial functions times spherical harmonics of all pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from diffrelax.network.graph import RadialFunctions
from diffrelax.network.sphere import spherical_harmonics


class PairBasis(RadialFunctions):
    """Expand all pairs of atoms in radial functions times real spherical harmonics.

    The fine functions are for the messages of scalars, the coarse ones for those of tensors.
    """

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
        radial, coarse = (values * pairs[..., None] for values in self.radial(distances))
        harmonics = spherical_harmonics(vectors).permute(0, 3, 1, 2).contiguous()
        full = (harmonics[..., None] * radial[:, None]).flatten(3)
        return (
            *(block.flatten(1, 2) for block in full.split((1, 3, 5), dim=1)),
            coarse.flatten(2),
        )
