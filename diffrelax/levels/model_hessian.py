"""A Hessian for nothing: what chemists know of bonds, angles and torsions, before any energy."""

from __future__ import annotations

import ase
import numpy as np
from ase.units import Bohr, Hartree

SOFTEST = 0.3  # eV/Å²; the best of 0.1, 0.3, 1 and 2 for drug-like molecules at AIMNet2


def model_hessian(atoms: ase.Atoms) -> np.ndarray:
    """Guess the second derivatives of the energy near a minimum.

    The diagonal force constants that geomeTRIC gives primitive internal coordinates (Schlegel 1984,
    doi 10.1007/BF00554788), in Cartesian coordinates, plus `SOFTEST` on the diagonal for what they
    do not hold, such as how parts that are not bonded move.

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
