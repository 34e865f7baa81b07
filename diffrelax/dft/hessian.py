"""Positive definite Hessians, rigid motions and vibrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.units import _amu, _e, _hbar, invcm, m
from scipy.linalg import null_space

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

FLOOR = 1.0  # eV/Å²
STRAIGHT = 0.1  # Å, root of the sum of squared distances from an axis of linear molecules


def rigid_motions(positions: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the translations and infinitesimal rotations of a molecule.

    Parameters
    ----------
    positions : (n_atoms, 3) array, Å

    Returns
    -------
    (3 n_atoms, k) array
        k is 6, or 5 for a (nearly) linear molecule, or 3 for an atom.
    """
    centred = positions - positions.mean(axis=0)
    translations = [np.tile(axis, len(positions)) for axis in np.eye(3)]
    rotations = [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    basis, sizes, _ = np.linalg.svd(np.array(translations + rotations).T, full_matrices=False)
    return basis[:, sizes > STRAIGHT]


def internal_forces(forces: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Project out net translation and rotation.

    Exact forces have no such part. DFT forces have one, because the integration grid moves with the
    atoms; it can prevent tight convergence.

    Parameters
    ----------
    forces : (n_atoms, 3) array, eV/Å
    positions : (n_atoms, 3) array, Å

    Returns
    -------
    (n_atoms, 3) array, eV/Å
    """
    rigid = rigid_motions(positions)
    return forces - (rigid @ (rigid.T @ forces.ravel())).reshape(-1, 3)


def count_vibrations(positions: np.ndarray) -> int:
    """Count the vibrations of atoms at (n_atoms, 3) positions, Å."""
    return positions.size - rigid_motions(positions).shape[1]


def positive_hessian(
    hessian: np.ndarray, positions: np.ndarray, floor: float = FLOOR
) -> np.ndarray:
    """Make a Hessian safe for a quasi-Newton minimiser.

    Rigid motions are projected out, and each eigenvalue is replaced by its absolute value or the
    floor, whichever is larger: a step then goes downhill along every mode and is bounded along soft
    ones.

    Parameters
    ----------
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²
    positions : (n_atoms, 3) array, Å
    floor : float, eV/Å²

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        Symmetric, positive definite.
    """
    rigid = rigid_motions(positions)
    internal = np.eye(len(hessian)) - rigid @ rigid.T
    eigenvalues, modes = np.linalg.eigh(internal @ hessian @ internal)
    return (modes * np.maximum(np.abs(eigenvalues), floor)) @ modes.T


def vibrations(molecule: Molecule, hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Harmonic vibrations, with translations and rotations projected out.

    Parameters
    ----------
    molecule : Molecule
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²

    Returns
    -------
    (3 n_atoms - k,) array, cm⁻¹
        Frequencies, ascending; imaginary ones as negative numbers. k is the number of rigid
        motions.
    (3 n_atoms - k, n_atoms, 3) array, amu^-½
        Normal modes, each with a mass-weighted length of 1.
    """
    root_masses = np.sqrt(np.repeat(molecule.masses, 3))
    rigid = rigid_motions(molecule.positions) * root_masses[:, None]
    internal = null_space(rigid.T)
    weighted = hessian / np.outer(root_masses, root_masses)
    curvatures, modes = np.linalg.eigh(internal.T @ weighted @ internal)
    motions = (internal @ modes).T / root_masses
    return wavenumber(curvatures), motions.reshape(-1, molecule.n_atoms, 3)


def wavenumber(curvature: np.ndarray | float) -> np.ndarray:
    """Frequency, cm⁻¹, of a mass-weighted curvature, eV/Å²/amu; negative if imaginary."""
    energies = np.sign(curvature) * np.sqrt(np.abs(curvature)) * _hbar * m / np.sqrt(_e * _amu)
    return energies / invcm
