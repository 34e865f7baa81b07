"""Check of generated atoms."""

from __future__ import annotations

from dataclasses import dataclass

import ase
from rdkit import Chem

from diffrelax.errors import reason_of
from diffrelax.generation.trajectory import Trajectory
from diffrelax.molecule import Molecule


@dataclass(frozen=True, eq=False)
class Generated:
    """A generated molecule, or atoms that are not one.

    Parameters
    ----------
    atoms : ase.Atoms
        ``info`` holds the SMILES, or the reason why it is not a molecule.
    molecule : Molecule or None
        If the atoms are a connected, neutral, closed-shell molecule with perceived bonds; formal
        charges that cancel are allowed.
    reason : str
        Why it is not a molecule.
    trajectory : Trajectory or None
    """

    atoms: ase.Atoms
    molecule: Molecule | None
    reason: str
    trajectory: Trajectory | None = None


def judge(atoms: ase.Atoms, trajectory: Trajectory | None = None) -> Generated:
    """Check whether atoms are a connected, neutral, closed-shell molecule."""
    molecule = None
    try:
        read = Molecule.from_atoms(atoms)
        reason = _fault(read)
        molecule = None if reason else read
    except Exception as error:  # of RDKit
        reason = reason_of(error)
    atoms.info |= {"smiles": molecule.smiles if molecule else "", "reason": reason}
    return Generated(atoms, molecule, reason, trajectory)


def _fault(molecule: Molecule) -> str:
    if molecule.multiplicity != 1:
        return "an odd number of electrons"
    if not molecule.bonds:
        return "no bond orders match its geometry"
    if (fragments := len(Chem.GetMolFrags(molecule.to_rdkit(stereo=False)))) > 1:
        return f"{fragments} fragments"
    return ""
