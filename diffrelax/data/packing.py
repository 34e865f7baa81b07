"""Pairs of minima and cheap relaxations, packed for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from diffrelax.geometry import superpose, torsion_changes
from diffrelax.levels import relax_at_level
from diffrelax.molecule import Molecule
from diffrelax.molecule.stereo import assign_stereo
from diffrelax.training.config import StartLevel
from diffrelax.training.geometries import GeometrySet

MAX_STEPS = 2000  # for force fields
FMAX = 0.05  # eV/Å, for GFN2-xTB


@dataclass(frozen=True, eq=False)
class Pair:
    """A minimum and a start near it: one entry of a `GeometrySet`.

    Parameters
    ----------
    index : int
        Number of the molecule in its source.
    smiles : str
        Isomeric SMILES, with the stereochemistry of ``positions``.
    charge : int
    numbers : (n_atoms,) uint8 array
    positions : (n_atoms, 3) array, Å
        Positions of the minimum, centred.
    starts : (n_atoms, 3) array, Å
        Positions of the start, superposed on the minimum.
    start_rmsd : float, Å
        NaN if the level has no parameters or did not converge.
    start_torsion : float, degrees
    """

    index: int
    smiles: str
    charge: int
    numbers: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    start_rmsd: float
    start_torsion: float


def pair(mol: Chem.Mol, index: int, level: StartLevel) -> Pair:
    """Pair a minimum with its relaxation at a cheap level of theory.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        The minimum, with explicit hydrogens. Stereochemistry and positions are changed in place.
    index : int
    level : {"mmff94", "uff", "gfn2-xtb"}
    """
    assign_stereo(mol)
    about = index, Chem.MolToSmiles(Chem.RemoveHs(mol)), Chem.GetFormalCharge(mol)
    minimum = mol.GetConformer().GetPositions()
    minimum -= minimum.mean(axis=0)
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.uint8)
    if (relaxed := _relaxed(mol, level)) is None:
        return Pair(*about, numbers, minimum, minimum, np.nan, np.nan)
    bonded = Chem.GetAdjacencyMatrix(mol).astype(bool)
    return pair_with(relaxed, numbers, minimum, bonded, *about)


def pair_with(
    start: np.ndarray,
    numbers: np.ndarray,
    minimum: np.ndarray,
    bonded: np.ndarray,
    index: int,
    smiles: str,
    charge: int,
) -> Pair:
    """Pair a minimum with a known start.

    Parameters
    ----------
    start, minimum : (n_atoms, 3) array, Å
    numbers : (n_atoms,) int array
    bonded : (n_atoms, n_atoms) bool array
    index : int
    smiles : str
    charge : int
    """
    minimum = minimum - minimum.mean(axis=0)
    start, rmsd = superpose(start, minimum)
    torsion = float(torsion_changes(bonded, start, minimum).max(initial=0.0))
    about = index, smiles, charge
    return Pair(*about, numbers.astype(np.uint8), minimum, start, rmsd, torsion)


def _relaxed(mol: Chem.Mol, level: StartLevel) -> np.ndarray | None:
    if level == "gfn2-xtb":
        relaxation = relax_at_level(Molecule.from_rdkit(mol), level, fmax=FMAX)
        return relaxation.positions if relaxation.converged else None
    if level == "uff":
        unfinished = rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=MAX_STEPS)
    else:
        unfinished = rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=MAX_STEPS)
    return None if unfinished else mol.GetConformer().GetPositions()


def pack(
    pairs: Sequence[Pair], levels: tuple[str, ...] = (), start: StartLevel = "mmff94"
) -> GeometrySet:
    """Pack pairs into flat arrays.

    Parameters
    ----------
    pairs : sequence of Pair
    levels : tuple of str
        Levels of theory of the minima.
    start : {"mmff94", "uff", "gfn2-xtb", "aimnet2"}
        Level of theory of the starts.
    """
    sizes = [len(pair.numbers) for pair in pairs]
    return GeometrySet(
        index=np.array([pair.index for pair in pairs]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        numbers=np.concatenate([pair.numbers for pair in pairs]),
        positions=np.concatenate([pair.positions for pair in pairs]).astype(np.float32),
        starts=np.concatenate([pair.starts for pair in pairs]).astype(np.float32),
        start_rmsd=np.array([pair.start_rmsd for pair in pairs], dtype=np.float32),
        start_torsion=np.array([pair.start_torsion for pair in pairs], dtype=np.float32),
        smiles=np.array([pair.smiles.encode() for pair in pairs]),
        charge=np.array([pair.charge for pair in pairs], dtype=np.int8),
        levels=levels,
        start_levels=(start,),
    )
