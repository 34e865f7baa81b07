"""Torsions that force fields lack or twist out of conjugation, with their angles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from rdkit import Chem
from rdkit.Chem.rdMolTransforms import GetDihedralDeg

from diffrelax.molecule.twists import overlooked_twists

LONE_PAIRS = ((8, 2), (7, 3), (16, 2))  # atomic numbers and numbers of neighbours
TURNED = 45.0  # degrees; smaller deviations from the plane are left to the force field
FLAT = [  # groups that MMFF94 twists out of conjugation, and their planar angles
    (Chem.MolFromSmarts(smarts), angles)
    for smarts, angles in (
        ("[a]:[c]-!@[#7X2+0]=[#7X2+0]", (0.0, 180.0)),  # azobenzene
        ("[a]:[c]-!@[#7X2]=[#7+;$(N=[N-])]", (0.0, 180.0)),  # azides of arenes
        ("[a]:[c]-!@[#7X2]=[#16X2;$(S=O)]", (0.0, 180.0)),  # N-sulfinylanilines
        ("[#1]-[#7X3H2]-[c]:[a]", (0.0, 180.0)),  # anilines, aminopyrimidines
        # N-substituted ones, whose substituent fits on one side of the ring only
        ("[c;!$(c-[#1])]:[c;$(c:n),$(c:[c;$(c-[#1])])]-!@[#7X3H1;$([#7]-[#6])]-[#1]", (0.0,)),
        ("[#1]-[#7X3]-!@[#6X3]=[#7X2]", (0.0, 180.0)),  # amidines, guanidines
        ("[!#1]-!@[#16X2]-!@[#6X3]=[#16X1]", (0.0,)),  # dithiocarbamates
        ("O=[#6X3]-!@[#6X3]=[N+;$(N=[N-])]", (0.0, 180.0)),  # diazo ketones
    )
]


Torsion: TypeAlias = tuple[int, int, int, int]


def senses(mol: Chem.Mol) -> dict[Torsion, float]:
    """Return the configurations that RDKit ignores, by the atoms of their torsions."""
    positions = mol.GetConformer().GetPositions()
    return {
        twist.torsion: twist.sense(positions)
        for twist in overlooked_twists(mol)
        if twist.is_element
    }


def cumulated_torsions(
    mol: Chem.Mol, twists: dict[Torsion, float]
) -> Iterator[tuple[Torsion, float]]:
    """Yield torsions across cumulated double bonds with the angles, degrees, that they must have.

    Force fields have no term for them: the ends of allenes, ketenimines and carbodiimides are
    perpendicular, those of butatrienes coplanar. In a ring, only the outer substituents are
    restrained.
    """
    positions = mol.GetConformer().GetPositions()
    for twist in overlooked_twists(mol):
        if len(twist.chain) == 2:
            continue
        first, last = twist.chain[0], twist.chain[-1]
        left = _outermost(mol, first, twist.left)
        right = _outermost(mol, last, twist.right)
        sense = twists.get(twist.torsion, twist.sense(positions))
        if (left == twist.left[0]) != (right == twist.right[0]):
            sense = -sense
        planar = 0.0 if sense > 0 else 180.0
        angle = float(np.copysign(90.0, sense)) if twist.is_axial else planar
        yield (left, first, last, right), angle


def _outermost(mol: Chem.Mol, end: int, beside: tuple[int, ...]) -> int:
    """Return the neighbour of an atom outside its rings, or else the first."""
    return min(beside, key=lambda i: mol.GetBondBetweenAtoms(end, i).IsInRing())


def boron_torsions(mol: Chem.Mol) -> Iterator[tuple[Torsion, float]]:
    """Yield torsions about B–O, B–N and B–S bonds with the angles that they must have.

    Lone pairs donate to three-coordinate boron, so its surroundings are planar, but UFF makes them
    perpendicular, and MMFF94 has no boron. All substituents are oriented in the same sense around
    boron, the one closer to the geometry, so that no two clash. Boron at a bridgehead is not
    restrained.
    """
    for boron in mol.GetAtoms():
        is_bridgehead = all(bond.IsInRing() for bond in boron.GetBonds())
        kind = boron.GetAtomicNum(), boron.GetDegree(), boron.GetFormalCharge()
        if kind == (5, 3, 0) and not is_bridgehead:
            around = [atom.GetIdx() for atom in boron.GetNeighbors()]
            ways = ([*_in_plane(mol, boron.GetIdx(), order)] for order in (around, around[::-1]))
            yield from min(ways, key=lambda held: _turned(mol, held))


def turned_torsions(mol: Chem.Mol) -> Iterator[tuple[Torsion, float]]:
    """Yield a torsion of `FLAT` for each twisted bond, and the nearest planar angle."""
    found: dict[tuple[int, int], list[tuple[Torsion, float]]] = {}
    for pattern, angles in FLAT:
        for ends in mol.GetSubstructMatches(pattern):
            if not _is_crowded_azo(mol, *ends[1:]):
                nearest = min(angles, key=lambda angle: _turned(mol, [(ends, angle)]))
                found.setdefault(ends[1:3], []).append((ends, nearest))
    for torsions in found.values():
        if _turned(mol, torsions) > TURNED * len(torsions):
            yield torsions[0]


def _is_crowded_azo(mol: Chem.Mol, arene: int, nitrogen: int, other: int) -> bool:
    """Return whether an azo or similar group cannot be coplanar with its arene.

    For example if both arenes are on one side, or both ortho positions are substituted.
    """
    first, second = mol.GetAtomWithIdx(arene), mol.GetAtomWithIdx(other)
    if not first.GetIsAromatic():
        return False
    if second.GetAtomicNum() == 7 and second.GetFormalCharge() == 0:
        ends = {atom.GetIdx() for atom in second.GetNeighbors()} - {nitrogen}
        conformer = mol.GetConformer()
        if any(abs(GetDihedralDeg(conformer, arene, nitrogen, other, end)) < 90 for end in ends):
            return True
    beside = (atom for atom in first.GetNeighbors() if atom.GetIsAromatic())
    return all(sum(o.GetAtomicNum() > 1 for o in atom.GetNeighbors()) > 2 for atom in beside)


def _in_plane(mol: Chem.Mol, boron: int, around: list[int]) -> Iterator[tuple[Torsion, float]]:
    rings = sorted(mol.GetRingInfo().AtomRings(), key=len)
    for middle, last in zip(around, [*around[1:], around[0]], strict=True):
        donor = mol.GetAtomWithIdx(middle)
        if (donor.GetAtomicNum(), donor.GetDegree()) not in LONE_PAIRS:
            continue
        others = [atom.GetIdx() for atom in donor.GetNeighbors() if atom.GetIdx() != boron]
        angles = [0.0, 180.0]
        ring = next((ring for ring in rings if boron in ring and middle in ring), ())
        if ring:  # 180° for a donor's neighbour in the ring, 0° for one outside
            (last,) = (i for i in around if i not in ring)
            others.sort(key=lambda i: i in ring)
            angles = angles[-len(others) :]
        (beside,) = (i for i in around if i not in (middle, last))
        for first, angle in zip(others, angles, strict=False):
            yield (first, middle, boron, last), angle
            yield (first, middle, boron, beside), 180.0 - angle


def _turned(mol: Chem.Mol, held: list[tuple[Torsion, float]]) -> float:
    """Return the total deviation of torsions from their angles, degrees."""
    conformer = mol.GetConformer()
    turns = (abs(GetDihedralDeg(conformer, *ends) - angle) % 360 for ends, angle in held)
    return sum(min(turn, 360 - turn) for turn in turns)
