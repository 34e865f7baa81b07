"""The network of the first releases, whose cost is that of all pairs of atoms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffrelax.network.config import DenseNetworkConfig
from diffrelax.network.dense_layer import DenseLayer, rms_norm
from diffrelax.network.dense_pairs import PairBasis
from diffrelax.network.network import Theory, centre, element_lookup


class DenseNetwork(nn.Module):
    """Map a geometry to one vector per atom, equivariant under E(3) and permutations.

    Parameters
    ----------
    config : DenseNetworkConfig
    condition : int
        Length of the condition vector of a molecule.
    """

    lookup: Tensor

    def __init__(self, config: DenseNetworkConfig, condition: int) -> None:
        super().__init__()
        self.register_buffer("lookup", element_lookup(config.elements), persistent=False)
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
            DenseLayer(config.channels, config.radial, config.coarse, config.channels)
            for _ in range(config.layers)
        )
        self.readout = nn.Linear(config.channels, 1, bias=False)
        nn.init.zeros_(self.readout.weight)

    def forward(
        self, numbers: Tensor, positions: Tensor, condition: Tensor, theory: Theory | None = None
    ) -> Tensor:
        """Compute the vectors.

        Parameters
        ----------
        numbers : (n_molecules, n_atoms) int tensor
            Atomic numbers, 0 where there is no atom.
        positions : (n_molecules, n_atoms, 3) tensor, Å
        condition : (n_molecules, n_condition) tensor
        theory : Theory, optional
            This network knows neutral molecules at one level, and pays no heed to it.

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
        return self.vectors(self.features(scalars, positions, condition, real, theory), real)

    def begin_as(self, base: nn.Module) -> None:
        """Take the weights of a network of the same shape.

        Raises
        ------
        RuntimeError
            If the base has another shape.
        """
        self.load_state_dict(base.state_dict())

    def compile_parts(self) -> None:
        """Have the basis and the layers compiled at their first use, for molecules of any size."""
        self.basis.compile(dynamic=True)
        for layer in self.layers:
            layer.compile(dynamic=True)

    def features(
        self,
        scalars: Tensor,
        positions: Tensor,
        condition: Tensor,
        real: Tensor,
        theory: Theory | None = None,
    ) -> Tensor:
        """Compute the features of the atoms after the last layer.

        Parameters
        ----------
        scalars : (n_molecules, n_atoms, n_channels) tensor
            What is known of each atom beside its position: the embedding of its element.
        positions, condition, theory
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
