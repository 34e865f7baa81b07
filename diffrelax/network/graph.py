"""Neighbour graph: the neighbours of each atom, and their distances and directions.

The atoms of all molecules are sorted by their number of neighbours and split into blocks. Within a
block, the neighbour lists are padded to the same length. All operations on pairs are then batched
matrix products, and their cost is proportional to the number of pairs within the cutoff.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffrelax.network.sphere import spherical_harmonics

SHORTEST = 0.7  # Å; atoms of a molecule are not closer
BLOCKS = 4


class Block(NamedTuple):
    """Atoms with similar numbers of neighbours.

    Attributes
    ----------
    senders : (n_atoms, n_neighbours) int tensor
        Indices of the neighbours among all atoms.
    basis : three (n_atoms, (2 l + 1) n_radial, n_neighbours) tensors, l = 0, 1, 2
        Spherical harmonics of the directions from each atom to its neighbours, times radial
        functions of the distances; zero where there is no neighbour.
    coarse : (n_atoms, n_coarse, n_neighbours) tensor
        Coarse radial functions without harmonics.
    """

    senders: Tensor
    basis: tuple[Tensor, ...]
    coarse: Tensor


class Graph(NamedTuple):
    """Neighbours of all atoms of a batch of molecules.

    Attributes
    ----------
    order : (n_atoms,) int tensor
        Index of each atom in the flattened padded batch.
    molecules : (n_atoms,) int tensor
        Index of the molecule of each atom.
    blocks : tuple of Block
        Together they have all atoms, in this order.
    """

    order: Tensor
    molecules: Tensor
    blocks: tuple[Block, ...]


class GraphBuilder(nn.Module):
    """Find the neighbours, and expand pair vectors in radial functions times harmonics.

    The radial functions are Gaussians of the logarithm of the distance, narrow for bonds and wide
    for distant pairs, times a polynomial cutoff (Gasteiger et al. 2020, eq. 8, p = 6).

    Parameters
    ----------
    radial, coarse : int
        Numbers of fine and of coarse radial functions.
    cutoff : float, Å
    fine_tensors : bool
        Whether l = 2 also uses the fine functions.
    """

    centres: Tensor
    coarse_centres: Tensor

    def __init__(self, radial: int, coarse: int, cutoff: float, fine_tensors: bool = False) -> None:
        super().__init__()
        self.cutoff, self.fine_tensors = cutoff, fine_tensors
        ends = (math.log(SHORTEST), math.log(cutoff))
        self.register_buffer("centres", torch.linspace(*ends, radial), persistent=False)
        self.register_buffer("coarse_centres", torch.linspace(*ends, coarse), persistent=False)
        self.widths = [radial, 3 * radial, 5 * (radial if fine_tensors else coarse)]

    def forward(self, positions: Tensor, real: Tensor) -> Graph:
        """Build the graph.

        Parameters
        ----------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        real : (n_molecules, n_atoms) bool tensor
            True where there is an atom.
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
        # an additional empty pair is used for padding
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
        distances = vectors.norm(dim=1)
        within = _envelope(distances, self.cutoff)
        radial, coarse = (
            _gaussians(distances, centres) * within
            for centres in (self.centres, self.coarse_centres)
        )
        harmonics = spherical_harmonics(vectors)
        fine = (harmonics[:, :4, None] * radial[:, None]).flatten(1)
        tensor_radial = radial if self.fine_tensors else coarse
        tensors = (harmonics[:, 4:, None] * tensor_radial[:, None]).flatten(1)
        return _with_nothing(torch.cat([fine, tensors], dim=1)), _with_nothing(coarse)


def _with_nothing(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])


def _gaussians(distances: Tensor, centres: Tensor) -> Tensor:
    """Return Gaussians of the logarithms of distances in Å, (..., n_centres)."""
    width = centres[1] - centres[0]
    logs = distances.clamp(min=0.1).log()[..., None]
    return torch.exp(-0.5 * ((logs - centres) / width) ** 2)


def _envelope(distances: Tensor, cutoff: float) -> Tensor:
    """Return the polynomial that takes radial functions to zero at the cutoff, (..., 1)."""
    x = (distances / cutoff).clamp(max=1.0)
    return (1 - 28 * x**6 + 48 * x**7 - 21 * x**8)[..., None]
