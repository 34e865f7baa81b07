"""The domain of a model: which molecules it covers, and which it covers with caution."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors
from scipy.sparse.csgraph import connected_components, shortest_path

from diffrelax.geometry import bond_matrix, torsion_quads
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.molecule.doubts import looks_like_bohr
from diffrelax.molecule.environments import environments, in_words
from diffrelax.molecule.force_fields import has_mmff94
from diffrelax.molecule.stereo import isomeric_smiles

ROOM_FOR_TRIPLE, ROOM_AT_BRIDGEHEAD = 10, 8  # sizes of the smallest rings without strain
COMPLEXED = Chem.MolFromSmarts(
    "[#21,#22,#23,#24,#25,#26,#27,#28,#29,#39,#40,#41,#42,#44,#45,#46,#77,#78]"
)
STRAINED = re.compile(r"\S+r[34] .*[:=#]\S+r[34]")  # a double bond within a ring of three or four
FEWEST_STRAINED = 10  # molecules with such an atom; seven were too few for diazirines
MOST_WITHOUT = 12  # atoms; larger molecules without a torsion are rare
FEWEST_MOLECULES = 5  # with an environment that spans the molecule; for fewer, GFN2-xTB checks


def outside_domain(molecule: Molecule, model: Model) -> str:
    """Say why the model does not cover a molecule; empty if it does."""
    if reason := outside_method(molecule, model.config.elements, model.config.charges):
        return reason
    if molecule.n_atoms > (limit := atom_limit(model)):
        return (
            f"{molecule.n_atoms} atoms: the model was trained on at most {model.config.largest} "
            f"and is not used beyond {limit}"
        )
    for pair in sorted(bond_kinds(molecule) - model.bonds):
        names = "–".join(chemical_symbols[z] for z in pair)
        return f"it has a bond {names}, which the model has not learned"
    return ""


def atom_limit(model: Model) -> int:
    """Return the largest number of atoms, with hydrogens, that the model is used for."""
    return max(model.config.limit, model.config.largest)


def outside_method(
    molecule: Molecule, elements: Collection[int], charges: Collection[int] = (0,)
) -> str:
    """Say why no model of these elements and total charges can learn or relax a molecule.

    Empty if one can.
    """
    if several := _several_fragments(molecule, charges):
        return several
    foreign = sorted({s for s, z in zip(molecule.symbols, molecule.numbers, strict=True)
                      if z not in elements})  # fmt: skip
    if foreign:
        return f"the model was not trained on {', '.join(foreign)}"
    if molecule.charge not in charges:
        known = named_charges(charges)
        trained = "neutral molecules" if known == "0" else f"molecules with a charge of {known}"
        return f"charge {molecule.charge:+d}: the model was trained on {trained}"
    if molecule.multiplicity != 1:
        return (
            f"multiplicity {molecule.multiplicity}: the model was trained on closed-shell molecules"
        )
    if molecule.n_atoms == 1:
        return "a single atom has no geometry"
    if not np.isin(molecule.numbers, (6, 7, 8)).any():
        return f"{molecule.formula}: the model was trained on molecules with C, N or O"
    if not molecule.bonds:
        n, _ = connected_components(bond_matrix(molecule.numbers, molecule.positions))
        parts = f"the distances show {n} separate fragments: give a single molecule"
        return "no bonds are known: " + (
            looks_like_bohr(molecule)
            or (parts if n > 1 else "")
            or f"none match its positions and charge {molecule.charge}. Give all hydrogens, "
            "the right charge (--charge), positions in Å, or a SMILES"
        )
    return ""


def _several_fragments(molecule: Molecule, charges: Collection[int]) -> str:
    """Say what a salt or mixture consists of, and what to give instead; empty for a molecule."""
    if not molecule.bonds:
        return ""
    try:
        mol = molecule.to_rdkit(stereo=False)
    except ValueError as error:
        return f"RDKit cannot make a structure from its bonds ({error}): give a SMILES"
    if (n := len(Chem.GetMolFrags(mol))) == 1:
        return ""
    with rdBase.BlockLogs():
        kinds = Counter(isomeric_smiles(molecule.to_rdkit()).split("."))
        alone = next((f"; give {one} alone" for one in _parents(kinds, charges)), "")
    named = ", ".join(f"{times} × {one}" if times > 1 else one for one, times in kinds.items())
    return f"{n} fragments ({named}): the model was trained on single molecules{alone}"


def _parents(fragments: Iterable[str], charges: Collection[int]) -> Iterator[str]:
    """Yield the largest fragment as it is and neutralised, if a model covers its charge.

    Nothing for a metal complex, such as ferrocene, whose ligands are different molecules.
    """
    from rdkit.Chem.MolStandardize import rdMolStandardize  # slow to import

    known = [*filter(None, map(Chem.MolFromSmiles, fragments))]
    if any(mol.HasSubstructMatch(COMPLEXED) for mol in known):
        return
    if largest := max(known, key=Chem.Mol.GetNumHeavyAtoms, default=None):
        for one in (largest, rdMolStandardize.ChargeParent(largest)):
            if Chem.GetFormalCharge(one) in charges:
                yield Chem.MolToSmiles(one)


def named_elements(numbers: Iterable[int]) -> str:
    """Name elements by their symbols, such as ``H, C, N``."""
    return ", ".join(chemical_symbols[z] for z in sorted(numbers))


def named_charges(charges: Iterable[int]) -> str:
    """Name charges, such as ``-1, 0, +1``."""
    return ", ".join(f"{charge:+d}" if charge else "0" for charge in sorted(charges))


def bond_kinds(molecule: Molecule) -> set[tuple[int, int]]:
    """Return the pairs of atomic numbers, the smaller first, that are bonded in a molecule."""
    ends = molecule.numbers[np.array([bond[:2] for bond in molecule.bonds])]
    return {(int(a), int(b)) for a, b in np.sort(ends, axis=1)}


def unfamiliar(molecule: Molecule, model: Model, few: int = 0) -> str:
    """Say which atoms have an environment that is rare in training; empty if none have.

    An environment that spans the whole molecule occurs in no other, so one training molecule is
    enough. Atoms at a double bond in a ring of three or four need at least `FEWEST_STRAINED`
    molecules. Strained multiple bonds in larger rings always count as rare, since environments do
    not show them.

    Parameters
    ----------
    molecule : Molecule
    model : Model
    few : int
        Number of training molecules required for an environment that spans the whole molecule.
    """
    if model.environments is None:
        return ""
    if strained := _strained_bond(molecule):
        return f"{strained}: few training molecules have such a bond, so the error is unknown"
    rare = []
    for kind, atom in environments(molecule).items():
        fills_it = len(kind.split()) == molecule.n_heavy
        enough = max(1, few) if fills_it else model.config.rare
        if STRAINED.match(kind):
            enough = max(enough, FEWEST_STRAINED)
        if (seen := model.environments.get(kind, 0)) < enough:
            rare.append((seen, atom, kind))
    if not rare:
        return ""
    seen, atom, kind = min(rare)
    others = f", and {len(rare) - 1} more like it" if len(rare) > 1 else ""
    return (
        f"{molecule.label(atom)} ({in_words(kind)}){others}: {seen or 'no'} training "
        f"molecule{'s have' if seen > 1 else ' has'} such an atom, so the error is unknown"
    )


def _strained_bond(molecule: Molecule) -> str:
    """Name a strained triple bond in a ring or double bond at a bridgehead; empty if none."""
    if all(order < 2 for *_, order in molecule.bonds):
        return ""
    mol = molecule.to_rdkit(stereo=False)
    bridgeheads: Any = []  # to be filled
    rdMolDescriptors.CalcNumBridgeheadAtoms(mol, atoms=bridgeheads)
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        size = mol.GetRingInfo().MinBondRingSize(bond.GetIdx())
        if bond.GetBondType() == Chem.BondType.TRIPLE and 4 < size < ROOM_FOR_TRIPLE:
            return f"{'≡'.join(map(molecule.label, ends))} in a ring of {size}"
        if bond.GetBondType() == Chem.BondType.DOUBLE and size > 4:
            for end, other in (ends, ends[::-1]):
                if end in bridgeheads and _trans_ring(mol, end, other) < ROOM_AT_BRIDGEHEAD:
                    return f"{'='.join(map(molecule.label, ends))} at a bridgehead"
    return ""


def _trans_ring(mol: Chem.Mol, bridgehead: int, other: int) -> float:
    """Return the size of the larger ring, in which a double bond at a bridgehead is trans."""
    bonds = Chem.GetAdjacencyMatrix(mol).astype(float)
    beside = set(np.flatnonzero(bonds[bridgehead]).tolist()) - {other}
    bonds[bridgehead] = bonds[:, bridgehead] = 0
    between = shortest_path(bonds, unweighted=True, indices=other)
    return max(between[atom] + 2 for atom in beside if np.isfinite(between[atom]))


def knows_start(molecule: Molecule, model: Model) -> bool:
    """Tell whether a model was trained on starts from the level at which a molecule was relaxed.

    UFF replaces MMFF94 for molecules without MMFF94 parameters, in training and in embeddings.
    """
    known = {*model.config.training.starts, *model.config.network.starts}
    if molecule.start == "uff" and "uff" not in known:
        return "mmff94" in known and not has_mmff94(molecule.to_rdkit(stereo=False))
    return molecule.start in known


def has_torsions(molecule: Molecule) -> bool:
    """Tell whether a molecule has a torsion; methane and a few other small ones have none."""
    if molecule.n_atoms > MOST_WITHOUT:
        return True
    bonded = bond_matrix(molecule.numbers, molecule.positions)
    return len(torsion_quads(bonded, molecule.positions)) > 0
