"""The equivariant network: atoms, positions and a condition in, one vector for each atom out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffrelax.network.config import NetworkConfig
from diffrelax.network.layer import Layer, rms_norm
from diffrelax.network.pairs import PairBasis


class EquivariantNetwork(nn.Module):
    """Map a geometry to one vector per atom, equivariant under E(3) and permutations.

    Parameters
    ----------
    config : NetworkConfig
    condition : int
        Length of the condition vector of a molecule.
    """

    lookup: Tensor

    def __init__(self, config: NetworkConfig, condition: int) -> None:
        super().__init__()
        unknown = len(config.elements)  # beyond the embedding: an unknown element raises
        lookup = torch.full((119,), unknown, dtype=torch.int64)
        lookup[[0, *config.elements]] = torch.tensor([0, *range(unknown)])
        self.register_buffer("lookup", lookup, persistent=False)
        self.elements = config.elements
        self.basis = PairBasis(config.radial, config.coarse, config.cutoff)
        self.embedding = nn.Embedding(len(config.elements), config.channels)
        self.condition = nn.Sequential(
            nn.Linear(condition, config.channels),
            nn.SiLU(),
            nn.Linear(config.channels, config.channels),
            nn.SiLU(),
        )
        self.layers = nn.ModuleList(
            Layer(config.channels, config.radial, config.coarse, config.channels)
            for _ in range(config.layers)
        )
        self.readout = nn.Linear(config.channels, 1, bias=False)
        nn.init.zeros_(self.readout.weight)

    def forward(self, numbers: Tensor, positions: Tensor, condition: Tensor) -> Tensor:
        """Compute the vectors.

        Parameters
        ----------
        numbers : (n_molecules, n_atoms) int tensor
            Atomic numbers, 0 where there is no atom.
        positions : (n_molecules, n_atoms, 3) tensor, Å
        condition : (n_molecules, n_condition) tensor

        Returns
        -------
        (n_molecules, n_atoms, 3) tensor
            With mean zero over the atoms of a molecule, and zero where there is no atom.

        Raises
        ------
        IndexError
            If there is an element that the network does not know.
        """
        real = numbers > 0
        scalars = self.embedding(self.lookup[numbers])
        return self.vectors(self.features(scalars, positions, condition, real), real)

    def compile_parts(self) -> None:
        """Have the basis and the layers compiled at their first use, for molecules of any size."""
        self.basis.compile(dynamic=True)
        for layer in self.layers:
            layer.compile(dynamic=True)

    def features(
        self, scalars: Tensor, positions: Tensor, condition: Tensor, real: Tensor
    ) -> Tensor:
        """Compute the features of the atoms after the last layer.

        Parameters
        ----------
        scalars : (n_molecules, n_atoms, n_channels) tensor
            What is known of each atom beside its position: the embedding of its element.
        positions, condition
            As in :meth:`forward`.
        real : (n_molecules, n_atoms) bool tensor
            Where there is an atom.

        Returns
        -------
        (n_molecules, 9, n_atoms, n_channels) tensor
            Components of ``0e + 1o + 2e``, of unit mean square on each atom.
        """
        basis = self.basis(positions, real)
        if torch.is_autocast_enabled(device := positions.device.type):
            half = torch.get_autocast_dtype(device)  # once, not anew in each layer
            basis = tuple(block.to(half) for block in basis)
        scalars = scalars * real[..., None]
        x = torch.cat([scalars[:, None], scalars.new_zeros(len(real), 8, *scalars.shape[1:])], 1)
        conditions = self.condition(condition)
        for layer in self.layers:
            x = layer(x, basis, conditions)
        return rms_norm(x)

    def vectors(self, features: Tensor, real: Tensor) -> Tensor:
        """Read one centred vector for each atom from the features."""
        return centre(self.readout(features[:, 1:4]).squeeze(-1).transpose(1, 2), real)


def centre(vectors: Tensor, real: Tensor) -> Tensor:
    """Subtract the mean over the atoms of each molecule; zero where there is no atom.

    Parameters
    ----------
    vectors : (n_molecules, n_atoms, 3) tensor
    real : (n_molecules, n_atoms) bool tensor
    """
    weights = real[..., None].to(vectors.dtype)
    mean = (vectors * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
    return (vectors - mean) * weights
