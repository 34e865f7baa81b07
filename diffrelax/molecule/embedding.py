"""Three-dimensional structures for molecules that have none."""

from __future__ import annotations

import operator
import random
import time
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem, DistanceGeometry
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.Chem.rdMolTransforms import GetDihedralDeg
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from diffrelax.molecule.checks import NO_BOND_OF_CARBON, check_positions
from diffrelax.molecule.drawings import atomic_numbers
from diffrelax.molecule.stereo import TETRAHEDRAL, assign_stereo, clear_nominal, overlooked_twists

MAX_HEAVY_ATOMS = 100  # an alkane chain of this length takes 20 s
FRAGMENT_GAP = 3.0  # Å
NO_BOND = 0.3  # Å beyond the covalent radii; atoms within 0.2 count as bonded
EMBEDDING_SECONDS = 30  # of the processor, for all trials of a molecule and the force field
TRIAL_SECONDS = 120  # of the clock, after which RDKit gives up a trial
ATTEMPTS = 10_000  # of one trial, times the atoms; RDKit makes ten for each atom
CAGE_ITERATIONS = 20
CAGE_TRIALS = 8
FORCE_FIELD_ROUNDS = 20
STEPS_A_ROUND = 1000
CARBON_BONDS = ({6}, {6, 7}, {6, 8})
LONE_PAIRS = ((8, 2), (7, 3), (16, 2))  # atomic numbers and bonds
HOLDING = 0.1  # kcal/mol/degree²
ROOM, STAYING = 0.4, 50.0  # Å, kcal/mol/Å²
STRETCHED = 0.3  # of a bond
TURNED = 45.0  # degrees; what is nearer to its plane than that is left to the force field
FLAT = [  # what MMFF94 turns out of the plane of conjugation, and the angles that it may have there
    (Chem.MolFromSmarts(smarts), angles)
    for smarts, angles in (
        ("[a]:[c]-!@[#7X2+0]=[#7X2+0]", (0.0, 180.0)),  # azobenzene
        ("[a]:[c]-!@[#7X2]=[#7+;$(N=[N-])]", (0.0, 180.0)),  # azides of arenes
        ("[a]:[c]-!@[#7X2]=[#16X2;$(S=O)]", (0.0, 180.0)),  # N-sulfinylanilines
        ("[#1]-[#7X3H2]-[c]:[a]", (0.0, 180.0)),  # anilines, aminopyrimidines
        # the like with one substituent, which has room on one side of the ring
        ("[c;!$(c-[#1])]:[c;$(c:n),$(c:[c;$(c-[#1])])]-!@[#7X3H1;$([#7]-[#6])]-[#1]", (0.0,)),
        ("[#1]-[#7X3]-!@[#6X3]=[#7X2]", (0.0, 180.0)),  # amidines, guanidines
        ("[!#1]-!@[#16X2]-!@[#6X3]=[#16X1]", (0.0,)),  # dithiocarbamates
        ("O=[#6X3]-!@[#6X3]=[N+;$(N=[N-])]", (0.0, 180.0)),  # diazo ketones
    )
]

Torsion: TypeAlias = tuple[int, int, int, int]


def embed(
    mol: Chem.Mol,
    seed: int,
    method: Literal["ETKDGv3", "KDG"] = "ETKDGv3",
    max_atoms: int | None = None,
) -> tuple[Chem.Mol, str]:
    """Embed a molecule in 3D and relax it with MMFF94, or UFF without its parameters.

    A geometry that lacks its hydrogens alone, such as a pose of docking, is relaxed from where it
    stands, and embedded where that is another isomer or torn. Where an embedding fails, as for
    small cages, trials follow that do without its tests of the embedded geometry (see
    `_embedding_trials`); whatever they give must have the stereochemistry asked for, and all its
    bonds. Unconnected fragments are embedded each on its own, set side by side and relaxed, each on
    its own again where they would drive each other away.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Hydrogens are added after the other atoms.
    seed : int
    method : {"ETKDGv3", "KDG"}
        With the preferences that torsions have in crystals, or without.
    max_atoms : int, optional
        Embed no larger molecule, hydrogens counted.

    Returns
    -------
    rdkit.Chem.Mol
        With all hydrogens and one conformer.
    str
        The force field: ``"mmff94"``, ``"uff"``, either with `` unconverged``, or ``"embedded"``
        where neither has parameters.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0 to 2**31 - 9, ``mol`` has more than `max_atoms` or
        `MAX_HEAVY_ATOMS`, no conformer with its stereochemistry is found, or none within
        `EMBEDDING_SECONDS`.
    KeyboardInterrupt
        If SIGINT comes while RDKit embeds.
    """
    seed = check_seed(seed)
    if mol.GetNumHeavyAtoms() > MAX_HEAVY_ATOMS:
        raise ValueError(
            f"{mol.GetNumHeavyAtoms()} heavy atoms are too many to embed (at most "
            f"{MAX_HEAVY_ATOMS}): give coordinates"
        )
    asked = Chem.AddHs(mol, addCoords=mol.GetNumConformers() > 0)
    if max_atoms is not None and (n := asked.GetNumAtoms()) > max_atoms:
        raise ValueError(f"{n} atoms: not embedded, as at most {max_atoms} are used here")
    twists: dict[Torsion, float] = {}
    poses = []
    if asked.GetNumConformers() and asked.GetConformer().Is3D():
        assign_stereo(asked)
        twists = _senses(asked)
        if asked.GetNumAtoms() > mol.GetNumAtoms():
            poses.append(Chem.Mol(asked))
    else:
        clear_nominal(asked)
    asked.RemoveAllConformers()
    smiles = Chem.MolToSmiles(Chem.RemoveHs(asked))
    end = time.thread_time() + EMBEDDING_SECONDS
    trials = chain(((pose, None) for pose in poses), _embedding_trials(asked, seed, method))
    for trial, parameters in trials:
        start = _embed_once(trial, parameters, twists, end)
        if time.thread_time() > end:
            raise ValueError(
                f"no 3D structure found for {smiles} in {EMBEDDING_SECONDS} s of processor time: "
                "give coordinates"
            )
        if not start:
            continue
        embedded = Chem.Mol(asked)
        embedded.AddConformer(trial.GetConformer())
        if _is_torn(embedded) or (start != "mmff94" and _is_crowded(embedded)):
            continue
        assign_stereo(embedded)
        found = _senses(embedded)
        if embedded.HasSubstructMatch(asked, useChirality=True) and all(
            sense * found.get(twist, sense) > 0 for twist, sense in twists.items()
        ):
            return embedded, start
    if not (has_mmff94(asked) or rdForceFieldHelpers.UFFHasAllMoleculeParams(asked)):
        raise ValueError(
            f"neither MMFF94 nor UFF has parameters for {smiles}, and embeddings alone have atoms "
            "too near each other: give coordinates"
        )
    raise ValueError(
        f"no 3D structure found for {smiles}: check its stereochemistry and rings, try another "
        "seed, or give coordinates"
    )


def _embed_once(mol: Chem.Mol, parameters: Any, twists: dict[Torsion, float], end: float) -> str:
    """Embed and relax a molecule in place; return the force field, or nothing where that fails.

    Without parameters, it is relaxed from where it stands.
    """
    if parameters is not None:
        if rdDistGeom.EmbedMolecule(mol, parameters) != 0:
            _pass_on_interrupt(mol, parameters)
            return ""
        _separate_fragments(mol)
    return _relax(mol, twists, end)


def _pass_on_interrupt(mol: Chem.Mol, parameters: Any) -> None:
    """Raise KeyboardInterrupt where an embedding ended before it had failed often enough.

    RDKit takes SIGINT for itself while it embeds, and tells it by a failure alone.
    """
    failures = parameters.GetFailureCounts()
    in_time = not failures[rdDistGeom.EmbedFailureCauses.EXCEEDED_TIMEOUT]
    if in_time and sum(failures) < parameters.maxIterations:
        bounds = rdDistGeom.GetMoleculeBoundsMatrix(
            mol, set15bounds=False, doTriangleSmoothing=False
        )
        if DistanceGeometry.DoTriangleSmoothing(bounds):  # without, it does not begin
            raise KeyboardInterrupt


def _is_torn(mol: Chem.Mol) -> bool:
    """Tell whether a bond of carbon is far too long, as in an isomer that no ring system allows.

    Or atoms are in one place, or nowhere, as of a pose that was none.
    """
    positions = mol.GetConformer().GetPositions()
    try:
        check_positions(atomic_numbers(mol), positions)
    except ValueError:
        return True
    for bond in mol.GetBonds():
        ends = [bond.GetBeginAtom(), bond.GetEndAtom()]
        if {end.GetAtomicNum() for end in ends} in CARBON_BONDS:
            i, j = (end.GetIdx() for end in ends)
            usual = sum(covalent_radii[end.GetAtomicNum()] for end in ends)
            if np.linalg.norm(positions[i] - positions[j]) > usual + NO_BOND_OF_CARBON:
                return True
    return False


def _is_crowded(mol: Chem.Mol) -> bool:
    """Tell whether atoms without a bond are nearly near enough for one.

    UFF does not see to it around atoms that it does not know, such as phosphorus with six bonds.
    """
    positions = mol.GetConformer().GetPositions()
    radii = covalent_radii[atomic_numbers(mol)]
    near = cdist(positions, positions) < radii[:, None] + radii + NO_BOND
    return bool((near & (Chem.GetDistanceMatrix(mol) > 1)).any())


def check_seed(seed: int) -> int:
    """Return the seed as an int, or raise ValueError if RDKit cannot take it and the next few."""
    try:
        number = operator.index(seed)
        if not isinstance(seed, bool) and 0 <= number < 2**31 - CAGE_TRIALS:
            return number
    except TypeError:
        pass
    raise ValueError(f"seed {seed!r}: give an integer from 0 to {2**31 - CAGE_TRIALS - 1}")


def _embedding_trials(asked: Chem.Mol, seed: int, method: str) -> Iterator[tuple[Chem.Mol, Any]]:
    """Yield molecules to embed and how: by a method of RDKit, and then as small cages.

    In a small cage the neighbours of an atom can lie on one side of it, which RDKit's tests of its
    embeddings refuse. The trials for cages do without these tests, from random coordinates and
    without torsion preferences: RDKit then only guides chiral atoms to their configuration, so
    those left open are given one by chance.
    """
    parameters: Any = getattr(rdDistGeom, method)()
    parameters.randomSeed = seed
    parameters.timeout = TRIAL_SECONDS
    parameters.trackFailures = True
    parameters.maxIterations = min(10 * asked.GetNumAtoms(), ATTEMPTS // asked.GetNumAtoms())
    yield Chem.Mol(asked), parameters
    parameters.useRandomCoords = True
    yield Chem.Mol(asked), parameters
    chance = random.Random(seed)
    for i in range(CAGE_TRIALS):
        trial = Chem.Mol(asked)
        for atom in trial.GetAtoms():
            if atom.GetDegree() == 4 and atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
                atom.SetChiralTag(chance.choice(TETRAHEDRAL))
        cage: Any = rdDistGeom.EmbedParameters()
        cage.randomSeed = seed + i
        cage.timeout = TRIAL_SECONDS
        cage.trackFailures = True
        cage.maxIterations = CAGE_ITERATIONS
        cage.useRandomCoords = True
        cage.enforceChirality = False
        yield trial, cage


def _separate_fragments(mol: Chem.Mol) -> None:
    """Set the fragments, which RDKit puts all around the origin, side by side along x."""
    fragments = Chem.GetMolFrags(mol)
    if len(fragments) == 1:
        return
    positions = mol.GetConformer().GetPositions()
    edge = 0.0
    for fragment in map(list, fragments):
        positions[fragment] -= [positions[fragment, 0].min() - edge, 0, 0]
        edge = positions[fragment, 0].max() + FRAGMENT_GAP
    mol.GetConformer().SetPositions(np.ascontiguousarray(positions))


def _is_scattered(mol: Chem.Mol) -> bool:
    """Tell whether a fragment is further from all others than it was set."""
    positions = mol.GetConformer().GetPositions()
    fragments = list(map(list, Chem.GetMolFrags(mol)))
    return len(fragments) > 1 and any(
        cKDTree(np.delete(positions, fragment, axis=0)).query(positions[fragment])[0].min()
        > FRAGMENT_GAP + 1.0
        for fragment in fragments
    )


def force_field(mol: Chem.Mol, level: str, *, charges: bool = True, together: bool = True) -> Any:
    """Build an RDKit force field that acts on the conformer of a molecule.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
    level : {"mmff94", "uff"}
    charges : bool
        Whether atoms of MMFF94 have their charges; those of UFF have none.
    together : bool
        Whether fragments act on each other.

    Returns
    -------
    rdkit force field or None
        None where it lacks parameters.
    """
    helpers = rdForceFieldHelpers
    if level == "uff":
        if not helpers.UFFHasAllMoleculeParams(mol):
            return None
        return helpers.UFFGetMoleculeForceField(mol, ignoreInterfragInteractions=not together)
    if not has_mmff94(mol):
        return None
    properties = helpers.MMFFGetMoleculeProperties(mol)
    properties.SetMMFFEleTerm(charges)
    return helpers.MMFFGetMoleculeForceField(
        mol, properties, ignoreInterfragInteractions=not together
    )


def _own_field(mol: Chem.Mol) -> tuple[Any, str]:
    """Build MMFF94, or UFF without its parameters, and say which; None where neither has any."""
    for level in ("mmff94", "uff"):
        if field := force_field(mol, level):
            return field, level
    return None, ""


def relax_nearby(mol: Chem.Mol) -> str:
    """Relax a geometry in place with MMFF94, or UFF without its parameters.

    Heavy atoms are held near where they are, free within `ROOM`, and so are most torsions.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all hydrogens and one conformer.

    Returns
    -------
    str
        The force field: ``"mmff94"`` or ``"uff"``, either with `` unconverged``; empty where
        neither has parameters, the molecule is torn, or most bonds change by so much that lengths
        may not be in Å.
    """
    field, level = _own_field(mol)
    if field is None:
        return ""
    stay = field.UFFAddPositionConstraint if level == "uff" else field.MMFFAddPositionConstraint
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() > 1:
            stay(atom.GetIdx(), ROOM, STAYING)
    before = _bond_lengths(mol)
    told = _minimise(mol, field, level, _senses(mol), time.thread_time() + EMBEDDING_SECONDS)
    if _is_torn(mol):
        return ""
    stretched = np.median(before / _bond_lengths(mol)) if len(before) else 1.0
    return told if abs(stretched - 1) < STRETCHED else ""


def _bond_lengths(mol: Chem.Mol) -> np.ndarray:
    positions = mol.GetConformer().GetPositions()
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], dtype=int)
    begin, end = ends.reshape(-1, 2).T
    return np.linalg.norm(positions[begin] - positions[end], axis=1)


def has_mmff94(mol: Chem.Mol) -> bool:
    """Tell whether MMFF94 has parameters for all atoms of a molecule."""
    return bool(rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol))


def hold(
    field: Any,
    level: str,
    torsion: Sequence[int],
    lowest: float,
    highest: float,
    *,
    relative: bool = False,
) -> None:
    """Add to a force field, see `force_field`, that a torsion stays between two angles, degrees.

    They are told from where the torsion is now, if ``relative``.
    """
    add = field.UFFAddTorsionConstraint if level == "uff" else field.MMFFAddTorsionConstraint
    add(*torsion, relative, lowest, highest, HOLDING)


def _relax(mol: Chem.Mol, twists: dict[Torsion, float], end: float) -> str:
    """Relax with MMFF94 or UFF; fragments that drive each other away, each on its own."""
    field, level = _own_field(mol)
    if field is None:
        return "embedded"
    before = mol.GetConformer().GetPositions()
    told = _minimise(mol, field, level, twists, end)
    if _is_scattered(mol):
        mol.GetConformer().SetPositions(before)
        told = _minimise(mol, force_field(mol, level, together=False), level, twists, end)
    return told


def _minimise(
    mol: Chem.Mol, field: Any, level: str, twists: dict[Torsion, float], end: float
) -> str:
    for ends, angle in chain(_held_torsions(mol, twists), _boron_torsions(mol)):
        hold(field, level, ends, angle, angle)
    told = _to_minimum(field, level, end)
    turned = list(_turned_torsions(mol))
    for ends, angle in turned:
        hold(field, level, ends, angle, angle)
    return _to_minimum(field, level, end) if turned else told


def _to_minimum(field: Any, level: str, end: float) -> str:
    for _ in range(FORCE_FIELD_ROUNDS):
        if field.Minimize(maxIts=STEPS_A_ROUND) == 0:
            return level
        if time.thread_time() > end:
            break
    return f"{level} unconverged"


def _boron_torsions(mol: Chem.Mol) -> Iterator[tuple[Torsion, float]]:
    """Yield torsions about bonds of boron to O, N and S, and the angle that they must have.

    Lone pairs go over to boron that has three bonds, and all around lies in one plane, where UFF
    stands it upright; MMFF94 knows no boron. The substituents of its neighbours all look to one
    side round the boron, to that which is nearer to the geometry, so no two of them meet. Boron at
    the bridgehead of a cage is held by its rings.
    """
    for boron in mol.GetAtoms():
        is_bridgehead = all(bond.IsInRing() for bond in boron.GetBonds())
        kind = boron.GetAtomicNum(), boron.GetDegree(), boron.GetFormalCharge()
        if kind == (5, 3, 0) and not is_bridgehead:
            around = [atom.GetIdx() for atom in boron.GetNeighbors()]
            senses = ([*_in_plane(mol, boron.GetIdx(), order)] for order in (around, around[::-1]))
            yield from min(senses, key=lambda held: _turned(mol, held))


def _turned_torsions(mol: Chem.Mol) -> Iterator[tuple[Torsion, float]]:
    """Yield a torsion of `FLAT` for each bond that is turned, and the nearest angle in plane."""
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
    """Tell whether an azo group, or the like, has no room in the plane of its arene.

    As where both arenes are on one side of it, or both neighbours in the ring are substituted.
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
        if ring:  # across it, and along it
            (last,) = (i for i in around if i not in ring)
            others.sort(key=lambda i: i in ring)
            angles = angles[-len(others) :]
        (beside,) = (i for i in around if i not in (middle, last))
        for first, angle in zip(others, angles, strict=False):
            yield (first, middle, boron, last), angle
            yield (first, middle, boron, beside), 180.0 - angle


def _turned(mol: Chem.Mol, held: list[tuple[Torsion, float]]) -> float:
    """Sum how far torsions are from the angles that they must have, degrees."""
    conformer = mol.GetConformer()
    turns = (abs(GetDihedralDeg(conformer, *ends) - angle) % 360 for ends, angle in held)
    return sum(min(turn, 360 - turn) for turn in turns)


def _senses(mol: Chem.Mol) -> dict[Torsion, float]:
    """Measure the configurations that RDKit overlooks, by the atoms that each is about."""
    positions = mol.GetConformer().GetPositions()
    return {
        twist.torsion: twist.sense(positions)
        for twist in overlooked_twists(mol)
        if twist.is_element
    }


def _held_torsions(mol: Chem.Mol, twists: dict[Torsion, float]) -> Iterator[tuple[Torsion, float]]:
    """Yield torsions across cumulated double bonds, and the angle, in degrees, that they must have.

    No force field has a term for them: the ends of allenes, ketenimines and carbodiimides stand
    upright on each other, those of butatrienes lie in one plane.
    """
    positions = mol.GetConformer().GetPositions()
    for twist in overlooked_twists(mol):
        along = (mol.GetBondBetweenAtoms(*pair) for pair in pairwise(twist.chain))
        if len(twist.chain) == 2 or any(bond.IsInRing() for bond in along):
            continue
        sense = twists.get(twist.torsion, twist.sense(positions))
        planar = 0.0 if sense > 0 else 180.0
        yield twist.torsion, float(np.copysign(90.0, sense)) if twist.is_axial else planar
