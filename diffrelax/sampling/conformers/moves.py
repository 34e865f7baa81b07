"""Moves that lead from low conformers to wells that no single turn reaches."""

from __future__ import annotations

import numpy as np

from diffrelax.levels.force_field import ForceField
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles

SOFT = 12  # modes beside translations and rotations
KICK = 1.5, 4.0  # Å, of the atom that moves most


def cross(
    rotors: Rotors, one: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Give a geometry the torsions of another one about some of its rotors, chosen by chance.

    Rings keep their shape.

    Parameters
    ----------
    rotors : Rotors
    one, other : (n_atoms, 3) array, Å
    rng : numpy.random.Generator

    Returns
    -------
    (n_atoms, 3) array, Å
    """
    here, there = (torsion_angles(positions, rotors.torsions) for positions in (one, other))
    crossed = one[None]
    for i in np.flatnonzero(rng.random(len(rotors)) < 0.5):
        crossed = rotors.turn(crossed, np.array([i]), (there - here)[[i]])
    return crossed[0]


def soft_modes(molecule: Molecule, force_field: ForceField) -> np.ndarray:
    """Return the softest modes of a geometry, by a force field.

    Returns
    -------
    (n_modes, n_atoms, 3) array
        Orthonormal; translations and rotations are among them.
    """
    _, modes = np.linalg.eigh(force_field.hessian(molecule.to_atoms()))
    return modes.T[: SOFT + 6].reshape(-1, molecule.n_atoms, 3)


def kick(positions: np.ndarray, modes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move a geometry far along a random combination of soft modes (low-mode search).

    Kolossvary and Guida 1996, doi 10.1021/ja952478m.

    Parameters
    ----------
    positions : (n_atoms, 3) array, Å
    modes : (n_modes, n_atoms, 3) array
        See `soft_modes`.
    rng : numpy.random.Generator

    Returns
    -------
    (n_atoms, 3) array, Å
    """
    step = np.tensordot(rng.normal(size=len(modes)), modes, axes=1)
    step -= step.mean(axis=0)
    return positions + step * rng.uniform(*KICK) / np.max(np.linalg.norm(step, axis=1))
