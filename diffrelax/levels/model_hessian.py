"""A model Hessian from force constants of bonds, angles and torsions, without any energy."""

from __future__ import annotations

import ase
import numpy as np
from ase.units import Bohr, Hartree

SOFTEST = 0.3  # eV/Å²; best of 0.1, 0.3, 1 and 2 for drug-like molecules with AIMNet2


def model_hessian(atoms: ase.Atoms) -> np.ndarray:
    """Estimate the second derivatives of the energy near a minimum.

    geomeTRIC's diagonal force constants of primitive internal coordinates (Schlegel 1984,
    doi 10.1007/BF00554788) in Cartesian coordinates, plus `SOFTEST` on the diagonal for motions
    without a force constant, such as those between parts that are not bonded.

    Parameters
    ----------
    atoms : ase.Atoms

    Returns
    -------
    (3 n_atoms, 3 n_atoms) array, eV/Å²
        Symmetric and positive definite.
    """
    if len(atoms) == 1:
        return SOFTEST * np.eye(3)
    from geometric.internal import PrimitiveInternalCoordinates
    from geometric.molecule import Molecule

    system = Molecule()
    system.elem = atoms.get_chemical_symbols()
    system.xyzs = [atoms.positions.copy()]
    system.build_topology()
    coordinates = PrimitiveInternalCoordinates(system, build=True, connect=True, addcart=False)
    flat = atoms.positions.ravel() / Bohr
    to_internal = coordinates.wilsonB(flat)
    constants = coordinates.guess_hessian(flat)
    hessian = to_internal.T @ constants @ to_internal * Hartree / Bohr**2
    return hessian + SOFTEST * np.eye(len(flat))
