"""The equivariant network: maps atoms, positions and a condition to one vector per atom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffrelax.errors import InputError
from diffrelax.network.config import NetworkConfig
from diffrelax.network.graph import GraphBuilder
from diffrelax.network.layer import Layer, rms_norm


class Context(NamedTuple):
    """Properties of molecules besides their atoms.

    Attributes
    ----------
    level : (n_molecules,) int tensor
        Index of the level of theory of the minimum among those of the network.
    charge : (n_molecules,) int tensor
        Total charge.
    start : (n_molecules,) int tensor
        Index of the level of theory of the start among the starts of the network; 0 if the
        displacement is noise.
    """

    level: Tensor
    charge: Tensor
    start: Tensor


class EquivariantNetwork(nn.Module):
    """Map a geometry to one vector per atom, equivariant under E(3) and permutations.

    The cost is proportional to the number of pairs of atoms within the cutoff.

    Parameters
    ----------
    config : NetworkConfig
    condition : int
        Length of the condition vector of a molecule.
    """

    lookup: Tensor
    charges: Tensor

    def __init__(self, config: NetworkConfig, condition: int) -> None:
        super().__init__()
        channels = config.channels
        self.elements = config.elements
        self.embedding = nn.Embedding(len(config.elements), channels)
        self.register_buffer("lookup", element_lookup(config.elements), persistent=False)
        self.register_buffer("charges", torch.tensor(config.charges), persistent=False)
        self.levels, self.starts = config.levels, config.starts
        self.graph = GraphBuilder(config.radial, config.coarse, config.cutoff, config.fine_tensors)
        self.level_embedding = nn.Embedding(max(1, len(config.levels)), channels)
        self.charge_embedding = nn.Embedding(len(config.charges), channels)
        nn.init.normal_(self.level_embedding.weight, std=0.3)
        nn.init.normal_(self.charge_embedding.weight, std=0.3)
        if len(config.starts) > 1:
            self.start_embedding = nn.Embedding(len(config.starts), channels)
            nn.init.zeros_(self.start_embedding.weight)
        self.condition = nn.Sequential(
            nn.Linear(condition + channels, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
            nn.SiLU(),
        )
        self.theory = nn.Linear(channels, channels, bias=False)  # named so in the weights
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.readout = nn.Linear(channels, 1, bias=False)
        nn.init.zeros_(self.readout.weight)

    def forward(
        self, numbers: Tensor, positions: Tensor, condition: Tensor, context: Context | None = None
    ) -> Tensor:
        """Compute one vector per atom.

        Parameters
        ----------
        numbers : (n_molecules, n_atoms) int tensor
            Atomic numbers, 0 where there is no atom.
        positions : (n_molecules, n_atoms, 3) tensor, Å
        condition : (n_molecules, n_condition) tensor
        context : Context, optional
            Default: neutral molecules at the only level.

        Returns
        -------
        (n_molecules, n_atoms, 3) tensor
            The mean over the atoms of each molecule is zero; zero where there is no atom.

        Raises
        ------
        IndexError
            If the network does not know an element, level or charge.
        ValueError
            If the network knows several levels and no context is given.
        """
        real = numbers > 0
        scalars = self.embedding(self.lookup[numbers])
        return self.vectors(self.features(scalars, positions, condition, real, context), real)

    def features(
        self,
        scalars: Tensor,
        positions: Tensor,
        condition: Tensor,
        real: Tensor,
        context: Context | None = None,
    ) -> Tensor:
        """Compute the features of the atoms after the last layer.

        Parameters
        ----------
        scalars : (n_molecules, n_atoms, n_channels) tensor
            Initial features of each atom: the embedding of its element.
        positions, condition, context
            As in :meth:`forward`.
        real : (n_molecules, n_atoms) bool tensor
            True where there is an atom.

        Returns
        -------
        (n_molecules, 9, n_atoms, n_channels) tensor
            Components of ``0e + 1o + 2e``, with unit mean square on each atom; meaningless where
            there is no atom.
        """
        graph = self.graph(positions, real)
        known = self._know(context, len(real))
        conditions = self.condition(torch.cat([condition, known], 1))
        x0 = scalars.flatten(0, 1)[graph.order] + self.theory(known)[graph.molecules]
        x = torch.cat([x0[None], x0.new_zeros(8, *x0.shape)])
        for layer in self.layers:
            x = layer(x, graph, conditions)
        padded = x.new_zeros(9, real.numel(), x.shape[2]).index_copy(1, graph.order, rms_norm(x))
        return padded.unflatten(1, real.shape).transpose(0, 1)

    def begin_as(self, base: EquivariantNetwork) -> None:
        """Copy the weights of a network of the same shape that may know less.

        New levels of theory, charges, starts and elements keep their initial weights.

        Raises
        ------
        RuntimeError
            If the base has another shape.
        """
        weights, own = base.state_dict(), self.state_dict()
        for name, mine, known in (
            ("level_embedding", self.levels, base.levels),
            ("charge_embedding", self.charges.tolist(), base.charges.tolist()),
            ("start_embedding", self.starts, base.starts),
            ("embedding", self.elements, base.elements),
        ):
            if f"{name}.weight" not in own:
                continue
            table = own[f"{name}.weight"].clone()
            for place, key in enumerate(mine):
                if key in known and f"{name}.weight" in weights:
                    table[place] = weights[f"{name}.weight"][known.index(key)]
            weights[f"{name}.weight"] = table
        self.load_state_dict(weights)

    def compile_parts(self) -> None:
        """Compile the layers at their first use, for molecules of any size."""
        for layer in self.layers:
            layer.compile(dynamic=True)

    def vectors(self, features: Tensor, real: Tensor) -> Tensor:
        """Compute one vector per atom from the features, centred over each molecule."""
        return centre(self.readout(features[:, 1:4]).squeeze(-1).transpose(1, 2), real)

    def _know(self, context: Context | None, n_molecules: int) -> Tensor:
        if context is None:
            if len(self.levels) > 1:
                known = ", ".join(self.levels)
                raise InputError(f"the model has several levels of theory, choose one: {known}")
            nothing = torch.zeros(n_molecules, dtype=torch.int64, device=self.lookup.device)
            context = Context(nothing, nothing, nothing)
        same = context.charge[:, None] == self.charges
        if not same.any(1).all():
            unknown = sorted(set(context.charge[~same.any(1)].tolist()))
            known = ", ".join(f"{q:+d}" for q in self.charges.tolist())
            raise IndexError(f"the model has not learned the charges {unknown}, only {known}")
        charges = self.charge_embedding(same.int().argmax(1))
        known = self.level_embedding(context.level) + charges
        if len(self.starts) == 1:
            return known
        return known + self.start_embedding(context.start)


def element_lookup(elements: tuple[int, ...]) -> Tensor:
    """Return the index of each atomic number in the elements; ``len(elements)`` if missing."""
    unknown = len(elements)
    lookup = torch.full((119,), unknown, dtype=torch.int64)
    lookup[[0, *elements]] = torch.tensor([0, *range(unknown)])
    return lookup


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
