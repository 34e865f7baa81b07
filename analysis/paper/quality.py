"""How good generated molecules are: stability, validity, uniqueness, novelty.

Stability is that of Hoogeboom et al. (2022, arXiv 2203.17003): bond orders are read from distances,
and an atom is stable if they add up to its valence. The limits are re-derived from the covalent
radii of Pyykkö and Atsumi for single (2009, doi 10.1002/chem.200800987) and double bonds (2009, doi
10.1002/chem.200901472), and of Pyykkö et al. for triple bonds (2005, doi 10.1002/chem.200401299).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from rdkit import Chem

from diffrelax.generation import Generated
from diffrelax.molecule.perception import constitution
from diffrelax.training.geometries import GeometrySet

VALENCE = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
RADII = (  # Å; for single, double and triple bonds
    {1: 0.32, 6: 0.75, 7: 0.71, 8: 0.63, 9: 0.64},
    {6: 0.67, 7: 0.60, 8: 0.57, 9: 0.59},
    {6: 0.60, 7: 0.54, 8: 0.53, 9: 0.53},
)
MARGINS = (0.10, 0.05, 0.03)  # Å, those of Hoogeboom et al.


@dataclass(frozen=True)
class GenerationQuality:
    """Shares of what was generated.

    Parameters
    ----------
    n : int
        Generated, molecules or not.
    stable_atoms, stable_molecules : float
        Share of atoms whose bond orders add up to their valence, and of molecules in which all
        atoms do.
    valid : float
        Share that are connected, neutral, closed-shell molecules whose bonds RDKit's
        rdDetermineBonds perceives.
    unique : float
        Distinct molecules, stereoisomers not counted, among the valid.
    novel : float
        Molecules that are not in the training data, among the distinct.
    reasons : dict
        How many are invalid, by reason, the names of atoms left out.
    """

    n: int
    stable_atoms: float
    stable_molecules: float
    valid: float
    unique: float
    novel: float
    reasons: dict[str, int]


def generation_quality(made: Sequence[Generated], known: Collection[str]) -> GenerationQuality:
    """Judge what was generated.

    Parameters
    ----------
    made : sequence of Generated
    known : collection of str
        SMILES of the training data, from `constitutions`.
    """
    stable = [stable_atoms(one.atoms) for one in made]
    valid = [one.molecule.to_rdkit() for one in made if one.molecule]
    distinct = {constitution(mol) for mol in valid}
    reasons = [_kind(one.reason) for one in made if one.reason]
    return GenerationQuality(
        n=len(made),
        stable_atoms=float(np.concatenate(stable).mean()),
        stable_molecules=float(np.mean([s.all() for s in stable])),
        valid=len(valid) / len(made),
        unique=len(distinct) / max(1, len(valid)),
        novel=len(distinct.difference(known)) / max(1, len(distinct)),
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


def _kind(reason: str) -> str:
    return "two atoms in one place" if " are in one place" in reason else reason


def constitutions(geometries: GeometrySet) -> set[str]:
    """Return the canonical SMILES of a set of molecules, without stereochemistry."""
    return {constitution(Chem.MolFromSmiles(smiles.decode())) for smiles in geometries.smiles}


def stable_atoms(atoms: ase.Atoms) -> np.ndarray:
    """Tell which atoms have bond orders that add up to their valence, (n_atoms,) bool array."""
    orders = np.zeros((len(atoms), len(atoms)), dtype=int)
    distances = atoms.get_all_distances()
    np.fill_diagonal(distances, np.inf)
    for order, (radii, margin) in enumerate(zip(RADII, MARGINS, strict=True), start=1):
        radius = np.array([radii.get(z, -np.inf) for z in atoms.numbers])
        orders[distances < radius[:, None] + radius + margin] = order
    return orders.sum(axis=1) == [VALENCE[z] for z in atoms.numbers]
