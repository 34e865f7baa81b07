"""How good generated molecules are: stability, validity, uniqueness, novelty.

Stability and the first validity are those of Hoogeboom et al. (2022, arXiv 2203.17003): bond
orders are read from distances; an atom is stable if they add up to its valence; a molecule is
valid if RDKit accepts all of these bonds, and it counts as its largest fragment. A radical is
valid, a molecule in pieces is, and 4% of real molecules are not stable. The second validity is
ours, and stricter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from rdkit import Chem

from diffrelax.generation import Generated
from diffrelax.molecule.connectivity import constitution
from diffrelax.molecule.valences import VALENCES
from diffrelax.training.geometries import GeometrySet

# pm, of single, double and triple bonds, below which they are such: Hoogeboom et al., appendix
LENGTHS = (
    {"HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135,
     "NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142},
    {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121},
    {"CC": 120, "CN": 116, "CO": 113, "NN": 110},
)  # fmt: skip
MARGINS = (10, 5, 3)  # pm
BONDS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)


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
    valid_by_rdkit, valid_and_unique_by_rdkit : float
        Share whose bonds RDKit accepts, and distinct ones by their largest fragments.
    valid : float
        Share that are connected, neutral, closed-shell molecules: their bonds are those of
        covalent radii, in an order that RDKit's rdDetermineBonds finds.
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
    valid_by_rdkit: float
    valid_and_unique_by_rdkit: float
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
    accepted = [smiles for one in made if (smiles := accepted_by_rdkit(one.atoms))]
    valid = [one.molecule.to_rdkit() for one in made if one.molecule]
    distinct = {constitution(mol) for mol in valid}
    reasons = [_kind(one.reason) for one in made if one.reason]
    return GenerationQuality(
        n=len(made),
        stable_atoms=float(np.concatenate(stable).mean()),
        stable_molecules=float(np.mean([s.all() for s in stable])),
        valid_by_rdkit=len(accepted) / len(made),
        valid_and_unique_by_rdkit=len(set(accepted)) / len(made),
        valid=len(valid) / len(made),
        unique=len(distinct) / max(1, len(valid)),
        novel=len(distinct.difference(known)) / max(1, len(distinct)),
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


def _kind(reason: str) -> str:
    return "two atoms in one place" if " coincide, " in reason else reason


def constitutions(geometries: GeometrySet) -> set[str]:
    """Return the canonical SMILES of a set of molecules, without stereochemistry."""
    return {constitution(Chem.MolFromSmiles(smiles.decode())) for smiles in geometries.smiles}


def bond_orders(atoms: ase.Atoms) -> np.ndarray:
    """Read bond orders from distances, (n_atoms, n_atoms) int array."""
    orders = np.zeros((len(atoms), len(atoms)), dtype=int)
    distances = 100 * atoms.get_all_distances()
    np.fill_diagonal(distances, np.inf)
    for order, (lengths, margin) in enumerate(zip(LENGTHS, MARGINS, strict=True), start=1):
        limits = [
            [lengths.get(a + b, lengths.get(b + a, -np.inf)) + margin for b in atoms.symbols]
            for a in atoms.symbols
        ]
        orders[distances < limits] = order
    return orders


def stable_atoms(atoms: ase.Atoms) -> np.ndarray:
    """Tell which atoms have bond orders that add up to their valence, (n_atoms,) bool array."""
    return bond_orders(atoms).sum(axis=1) == [VALENCES[number] for number in atoms.numbers]


def accepted_by_rdkit(atoms: ase.Atoms) -> str:
    """Return the SMILES of the largest fragment with the bonds that distances tell, if valid."""
    mol = Chem.RWMol()
    for symbol in atoms.symbols:
        mol.AddAtom(Chem.Atom(symbol))
    orders = bond_orders(atoms)
    for a, b in zip(*np.nonzero(np.triu(orders)), strict=True):
        mol.AddBond(int(a), int(b), BONDS[orders[a, b] - 1])
    try:
        Chem.SanitizeMol(mol)
        fragments = Chem.GetMolFrags(mol, asMols=True)
        return str(Chem.MolToSmiles(max(fragments, key=Chem.Mol.GetNumAtoms)))
    except ValueError:
        return ""
