"""What the network sees of geometries: for each atom its neighbours, and where they lie.

The atoms of all molecules stand in one row, ordered by the number of their neighbours and cut
into blocks. In a block each atom has a table of neighbours as long as the longest of them, so all
work on pairs is batched matrix products, and costs as much as there are pairs within the cutoff.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffrelax.network.sphere import spherical_harmonics

SHORTEST = 0.7  # Å; no two atoms of a molecule come closer
BLOCKS = 4


class Block(NamedTuple):
    """Atoms with about as many neighbours each.

    Attributes
    ----------
    senders : (n_atoms, n_neighbours) int tensor
        Places of the neighbours among all atoms.
    basis : three (n_atoms, (2 l + 1) n_radial, n_neighbours) tensors, l = 0, 1, 2
        Spherical harmonics of the directions from each atom to its neighbours, times radial
        functions of the distances, coarse ones for l = 2; zero where there is no neighbour.
    coarse : (n_atoms, n_coarse, n_neighbours) tensor
        Coarse radial functions alone.
    """

    senders: Tensor
    basis: tuple[Tensor, ...]
    coarse: Tensor


class Graph(NamedTuple):
    """Neighbours of all atoms of a batch of molecules.

    Attributes
    ----------
    order : (n_atoms,) int tensor
        Where each atom stands in the padded batch, flattened.
    molecules : (n_atoms,) int tensor
        The molecule that each atom belongs to.
    blocks : tuple of Block
        One after the other they have all atoms.
    """

    order: Tensor
    molecules: Tensor
    blocks: tuple[Block, ...]


class RadialFunctions(nn.Module):
    """Gaussians in the logarithm of the distance, fine for bonds and coarse for far pairs.

    Times a polynomial cutoff (Gasteiger et al. 2020, eq. 8, p = 6).

    Parameters
    ----------
    radial, coarse : int
        Number of fine functions, and of coarse ones.
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

    def radial(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the fine functions and the coarse ones of distances, Å, (..., n) each."""
        within = _envelope(distances, self.cutoff)
        centres = (self.centres, self.coarse_centres)
        fine, coarse = (_gaussians(distances, some) * within for some in centres)
        return fine, coarse


class GraphBuilder(RadialFunctions):
    """Find the neighbours, and expand their vectors in radial functions times harmonics.

    Parameters
    ----------
    radial, coarse, cutoff
        See `RadialFunctions`.
    """

    def __init__(self, radial: int, coarse: int, cutoff: float) -> None:
        super().__init__(radial, coarse, cutoff)
        self.widths = [radial, 3 * radial, 5 * coarse]

    def forward(self, positions: Tensor, real: Tensor) -> Graph:
        """Build the graph.

        Parameters
        ----------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        real : (n_molecules, n_atoms) bool tensor
            Where there is an atom.
        """
        n_atoms = real.shape[1]
        near = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
        pairs = (near < self.cutoff) & real[:, :, None] & real[:, None, :]
        pairs.diagonal(dim1=1, dim2=2).fill_(False)
        counts = pairs.sum(2).flatten()
        atoms = real.flatten().nonzero().squeeze(1)
        order = atoms[counts[atoms].argsort(descending=True, stable=True)]
        molecule, receiver, sender = pairs.nonzero(as_tuple=True)
        vectors = positions[molecule, sender] - positions[molecule, receiver]
        basis, coarse = self._expand(vectors)
        places = torch.empty_like(counts)
        places[order] = torch.arange(len(order), device=order.device)
        # one more pair, of nothing, fills the tables up
        senders = torch.cat([places[molecule * n_atoms + sender], places.new_zeros(1)])
        firsts = counts.cumsum(0) - counts
        blocks = []
        for part in order.tensor_split(BLOCKS):
            if not len(part):
                continue
            slots = torch.arange(int(counts[part[0]]), device=part.device)
            rows = torch.where(slots < counts[part, None], firsts[part, None] + slots, len(vectors))
            parts = basis[rows].transpose(1, 2).split(self.widths, dim=1)
            blocks.append(Block(senders[rows], parts, coarse[rows].transpose(1, 2)))
        return Graph(order, order // n_atoms, tuple(blocks))

    def _expand(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        radial, coarse = self.radial(vectors.norm(dim=1))
        harmonics = spherical_harmonics(vectors)
        fine = (harmonics[:, :4, None] * radial[:, None]).flatten(1)
        basis = torch.cat([fine, (harmonics[:, 4:, None] * coarse[:, None]).flatten(1)], dim=1)
        return _with_nothing(basis), _with_nothing(coarse)


def _with_nothing(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])


def _gaussians(distances: Tensor, centres: Tensor) -> Tensor:
    """Return Gaussians in the logarithms of distances, Å, (..., n_centres)."""
    width = centres[1] - centres[0]
    logs = distances.clamp(min=0.1).log()[..., None]
    return torch.exp(-0.5 * ((logs - centres) / width) ** 2)


def _envelope(distances: Tensor, cutoff: float) -> Tensor:
    """Return the polynomial that lets radial functions end at the cutoff, (..., 1)."""
    x = (distances / cutoff).clamp(max=1.0)
    return (1 - 28 * x**6 + 48 * x**7 - 21 * x**8)[..., None]
