"""Stereochemistry of geometries and SMILES, beyond what RDKit handles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler, rdMolDescriptors

from diffrelax.molecule.connectivity import skeleton
from diffrelax.molecule.twists import (
    SMALL_RING,
    annulenes,
    double_bond_chains,
    double_bond_elements,
    open_twists,
)

TETRAHEDRAL = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
UNSPECIFIED = Chem.ChiralType.CHI_UNSPECIFIED
PYRAMIDAL = (7, 15, 33)  # N, P, As
FLAT_PYRAMID = 0.1  # volume spanned by three unit vectors along the bonds; 0.7 in an aziridine
CHALCOGENS = (16, 34, 52)
AMIDINIUM = Chem.MolFromSmarts("[#7+;X3]=[#6;X3]-[#7+0;X3]")
TIGHT_RING = 5  # atoms; two such rings share a bond in one configuration only
LABELLING = 100_000  # iterations in the assignment of R and S


def assign_stereo(mol: Chem.Mol) -> None:
    """Assign R/S and E/Z from the conformer, in place.

    RDKit determines chirality from three neighbours as seen from the atom, which is wrong if all
    four are on one side, as in small cages. Here it is the sign of the volume that the four
    neighbours span. RDKit also ignores pyramidal N, P and As; here they get a tag, and RDKit keeps
    those that it supports: P and As, and N in a three-membered ring or at a bridgehead. N with a
    hydrogen and non-tetrahedral centres get none. See also `clear_nominal` and `keep_spiro_tags`.
    """
    Chem.AssignStereochemistryFrom3D(mol)
    Chem.AssignAtomChiralTagsFromStructure(mol)
    positions = mol.GetConformer().GetPositions()
    for atom in mol.GetAtoms():
        others = atom.GetNeighbors()
        near = positions[[other.GetIdx() for other in others]]
        if atom.GetChiralTag() not in TETRAHEDRAL:
            atom.SetChiralTag(UNSPECIFIED)
        if len(near) == 4 and atom.GetChiralTag() in TETRAHEDRAL:
            volume = np.linalg.det(near[:3] - near[3])
        elif len(near) == 3 and atom.GetAtomicNum() in PYRAMIDAL:
            edges = near - positions[atom.GetIdx()]
            volume = np.linalg.det(edges / np.linalg.norm(edges, axis=1, keepdims=True))
            inverts = atom.GetAtomicNum() == 7 and any(o.GetAtomicNum() == 1 for o in others)
            if inverts or abs(volume) < FLAT_PYRAMID:
                continue
        else:
            continue
        atom.SetChiralTag(TETRAHEDRAL[0 if volume < 0 else 1])
    tags = _tags(mol)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    clear_nominal(mol)
    keep_spiro_tags(mol, tags)


def clear_nominal(mol: Chem.Mol) -> None:
    """Remove R/S and E/Z that exist only in the Lewis structure, in place.

    Neighbours that differ only in bond order and formal charge are equivalent, such as the oxygens
    of a phosphodiester. There is also no E/Z at pyramidal sulfur, whose double bond is a
    charge-separated single bond, nor in amidinium and guanidinium, whose C–N bonds are equivalent.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all hydrogens and assigned stereochemistry.
    """
    tagged = [atom for atom in mol.GetAtoms() if atom.GetChiralTag() in TETRAHEDRAL]
    if tagged:
        pairs = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds())
        bare = skeleton((atom.GetAtomicNum() for atom in mol.GetAtoms()), pairs)
        drawn, real = (
            list(Chem.CanonicalRankAtoms(one, breakTies=False, includeChirality=False))
            for one in (mol, bare)
        )
        nominal = []
        for atom in tagged:
            near = [other.GetIdx() for other in atom.GetNeighbors()]
            if len({real[i] for i in near}) < len({drawn[i] for i in near}):
                nominal.append(atom)
        for atom in nominal:
            atom.SetChiralTag(UNSPECIFIED)
        if nominal:
            tags = _tags(mol)
            Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
            keep_spiro_tags(mol, tags)
    _clear_turning(mol)


def _clear_turning(mol: Chem.Mol) -> None:
    for bond in mol.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if any(end.GetAtomicNum() in CHALCOGENS and end.GetDegree() == 3 for end in ends):
            bond.SetStereo(Chem.BondStereo.STEREONONE)
    for nitrogen, carbon, _ in mol.GetSubstructMatches(AMIDINIUM):
        mol.GetBondBetweenAtoms(nitrogen, carbon).SetStereo(Chem.BondStereo.STEREONONE)
        for end in (nitrogen, carbon):
            for bond in mol.GetAtomWithIdx(end).GetBonds():
                bond.SetBondDir(Chem.BondDir.NONE)


def keep_spiro_tags(mol: Chem.Mol, tags: Sequence[Chem.ChiralType]) -> None:
    """Restore chiral tags of spiro atoms that RDKit drops, in place.

    RDKit drops them if the branches of both rings differ only in configuration, as in
    2,8-dimethyl-1,7-dioxaspiro[5.5]undecane, or altogether, as in 1,7-dioxaspiro[5.5]undecane.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With assigned stereochemistry.
    tags : sequence of rdkit.Chem.ChiralType
        One for each atom.
    """
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    shared = [a & b for a, b in combinations(rings, 2)]
    dropped = {
        i
        for i in set().union(*(atoms for atoms in shared if len(atoms) == 1))
        if mol.GetAtomWithIdx(i).GetChiralTag() == UNSPECIFIED and tags[i] in TETRAHEDRAL
    }
    if not dropped:
        return
    trial = Chem.Mol(mol)
    for i in dropped:
        trial.GetAtomWithIdx(i).SetChiralTag(tags[i])
    with suppress(RuntimeError):  # more iterations than allowed
        rdCIPLabeler.AssignCIPLabels(trial, maxRecursiveIterations=LABELLING)
    for i in dropped:
        if trial.GetAtomWithIdx(i).HasProp("_CIPCode"):
            mol.GetAtomWithIdx(i).SetChiralTag(tags[i])


def mol_from_smiles(smiles: str) -> Chem.Mol | None:
    """Read a SMILES with the configuration of spiro atoms; None if it is invalid."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        return None
    written = Chem.MolFromSmiles(smiles, sanitize=False)  # has hydrogens that `mol` may lack
    tags = iter([atom.GetChiralTag() for atom in written.GetAtoms() if atom.GetAtomicNum() != 1])
    keep_spiro_tags(
        mol, [UNSPECIFIED if a.GetAtomicNum() == 1 else next(tags) for a in mol.GetAtoms()]
    )
    return mol


def isomeric_smiles(mol: Chem.Mol) -> str:
    """Return the canonical SMILES of a molecule with all hydrogens and its stereochemistry."""
    bare = Chem.RemoveHs(mol, sanitize=False)
    bare.UpdatePropertyCache(strict=False)
    Chem.GetSymmSSSR(bare)  # without rings, tags of nitrogen would be dropped
    tags = _tags(bare)
    Chem.AssignStereochemistry(bare, cleanIt=True, force=True)
    _clear_turning(bare)
    keep_spiro_tags(bare, tags)
    return Chem.MolToSmiles(bare)


def unlabelled(mol: Chem.Mol) -> Chem.Mol:
    """Return a molecule without isotopes (also of hydrogen) and atom maps."""
    plain = Chem.Mol(mol)
    for atom in plain.GetAtoms():
        atom.SetIsotope(0)
        atom.SetAtomMapNum(0)
    return Chem.RemoveHs(plain)


def without_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Remove all hydrogens, including those that make an imine E or Z."""
    parameters = Chem.RemoveHsParameters()
    parameters.removeDefiningBondStereo = True  # type: ignore[assignment]
    return Chem.RemoveHs(mol, parameters)


def clear_unknown(mol: Chem.Mol) -> None:
    """Clear, in place, stereochemistry marked as unknown: wavy and crossed bonds, ``?`` of InChI.

    RDKit would keep the marks and find no stereochemistry in the embedding either.
    """
    for bond in mol.GetBonds():
        if bond.GetBondDir() in (Chem.BondDir.UNKNOWN, Chem.BondDir.EITHERDOUBLE):
            bond.SetBondDir(Chem.BondDir.NONE)
        if bond.GetStereo() == Chem.BondStereo.STEREOANY:
            bond.SetStereo(Chem.BondStereo.STEREONONE)
        for mark in ("_UnknownStereo", "_MolFileBondStereo", "_MolFileBondCfg"):
            bond.ClearProp(mark)


def leaves_open(asked: Chem.Mol, embedded: Chem.Mol) -> bool:
    """Return whether an embedding has stereochemistry that the input did not specify.

    Racemates and mixtures count as unspecified. E/Z of an N–H imine counts, since a conformer
    search does not change it; R/S of nitrogen does not, since it inverts or is fixed by rings.
    Centres of cages that determine each other do not count. SMILES cannot specify the cis double
    bonds of an annulene.
    """
    is_embedded = not (asked.GetNumConformers() and asked.GetConformer().Is3D())
    if is_embedded and (open_twists(embedded) or annulenes(embedded)):
        return True
    absolute = Chem.StereoGroupType.STEREO_ABSOLUTE
    if any(group.GetGroupType() != absolute for group in asked.GetStereoGroups()):
        return True
    none = Chem.BondStereo.STEREONONE
    if any(
        old.GetStereo() == none != new.GetStereo()
        for old, new in zip(Chem.AddHs(asked).GetBonds(), embedded.GetBonds(), strict=True)
    ):
        return True
    before, after = map(_without_turning, (asked, embedded))
    smiles = Chem.MolToSmiles(after)
    if Chem.MolToSmiles(before) == smiles:
        return False
    chosen = {
        i
        for i, tags in enumerate(zip(_tags(before), _tags(after), strict=True))
        if tags[0] == UNSPECIFIED != tags[1]
    }
    together = chosen & _in_cages(after)
    return any(
        _inverted(after, centres) != smiles
        for centres in [together, *({i} for i in chosen - together)]
    )


def _without_turning(mol: Chem.Mol) -> Chem.Mol:
    mol = Chem.Mol(mol)
    mol.RemoveAllConformers()
    for atom in mol.GetAtoms():
        atom.SetIsotope(0)
        atom.SetAtomMapNum(0)
        inverts = atom.GetDegree() < 4 or atom.GetTotalNumHs(includeNeighbors=True)
        if atom.GetAtomicNum() == 7 and inverts:
            atom.SetChiralTag(UNSPECIFIED)
    full = Chem.AddHs(mol)
    clear_nominal(full)
    bare = without_hydrogens(full)
    _clear_turning(bare)
    return bare


def _in_cages(mol: Chem.Mol) -> set[int]:
    """Return the atoms whose configuration is determined by the rest of their cage.

    They have three bridges in small rings, or are in three rings of at most five atoms, as in
    cubane.
    """
    bridgeheads: Any = []  # the stubs declare another type
    rdMolDescriptors.CalcNumBridgeheadAtoms(mol, bridgeheads)
    rings = mol.GetRingInfo()
    tight = Counter(i for ring in Chem.GetSymmSSSR(mol) if len(ring) <= TIGHT_RING for i in ring)
    found = {i for i in bridgeheads if max(rings.AtomRingSizes(i)) < SMALL_RING}
    return found | {i for i, times in tight.items() if times > 2}


def _inverted(mol: Chem.Mol, centres: set[int]) -> str:
    """Return the SMILES with some centres inverted."""
    mol = Chem.Mol(mol)
    for i in centres:
        mol.GetAtomWithIdx(i).InvertChirality()
    return Chem.MolToSmiles(mol)


def _tags(mol: Chem.Mol) -> list[Chem.ChiralType]:
    return [atom.GetChiralTag() for atom in mol.GetAtoms()]


def ignored_stereo(smiles: str) -> str:
    """Describe a configuration in a SMILES that RDKit cannot keep or embed; empty if none.

    Meaningless tags, such as on an atom with two equal neighbours or an inverting nitrogen, are
    not reported.
    """
    parameters: Any = Chem.SmilesParserParams()
    parameters.removeHs = False
    kept = Chem.MolFromSmiles(smiles, parameters)
    asked = Chem.MolFromSmiles(smiles, sanitize=False)
    asked.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(asked)
    Chem.SetBondStereoFromDirections(asked)
    if any(_has_axial_tag(atom) for atom in asked.GetAtoms()):
        return "the configuration of an allene"
    if any(atom.GetChiralTag() not in (UNSPECIFIED, *TETRAHEDRAL) for atom in asked.GetAtoms()):
        return "the configuration of a centre that is not tetrahedral"
    for chain in double_bond_chains(asked):
        if len(chain) > 2 and len(chain) % 2 == 0 and _is_marked(asked, chain):
            return "E or Z across cumulated double bonds"
    elements = double_bond_elements(kept)
    for bond, known in zip(asked.GetBonds(), kept.GetBonds(), strict=True):
        none = Chem.BondStereo.STEREONONE
        if bond.GetStereo() == none or known.GetStereo() != none:
            continue
        if size := _trans_in_ring(bond):
            return f"a trans double bond in a ring of {size}"
        if bond.GetIdx() in elements:
            return "E or Z of a double bond between equal branches of a ring"
    return ""


def _has_axial_tag(atom: Chem.Atom) -> bool:
    return (
        atom.GetDegree() == 2 and not atom.GetNumExplicitHs() and atom.GetChiralTag() != UNSPECIFIED
    )


def _is_marked(mol: Chem.Mol, chain: Sequence[int]) -> bool:
    """Return whether both ends of a chain have a bond with a slash in the SMILES."""
    return all(
        any(bond.GetBondDir() != Chem.BondDir.NONE for bond in mol.GetAtomWithIdx(end).GetBonds())
        for end in (chain[0], chain[-1])
    )


def _trans_in_ring(bond: Chem.Bond) -> int:
    """Return the size of the small ring in which a bond is trans, or 0."""
    ends = {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
    for ring in bond.GetOwningMol().GetRingInfo().AtomRings():
        if len(ring) < SMALL_RING and ends <= set(ring):
            outside = sum(atom not in ring for atom in bond.GetStereoAtoms())
            if (bond.GetStereo() == Chem.BondStereo.STEREOTRANS) == (outside != 1):
                return len(ring)
    return 0
