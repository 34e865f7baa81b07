"""Three-dimensional structures for molecules that have none."""

from __future__ import annotations

import operator
import random
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
from ase.data import covalent_radii
from rdkit import Chem, DistanceGeometry
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from scipy.spatial.distance import cdist

from diffrelax.errors import InputError
from diffrelax.molecule.drawings import atomic_numbers
from diffrelax.molecule.force_fields import FRAGMENT_GAP, has_mmff94, is_torn, relax_freely
from diffrelax.molecule.held_torsions import Torsion, senses
from diffrelax.molecule.stereo import TETRAHEDRAL, assign_stereo, clear_nominal

MAX_HEAVY_ATOMS = 100  # an alkane chain of this length takes 20 s
MAX_ATOMS = 250  # hydrogens counted; either limit will do
NO_BOND = 0.3  # Å beyond the covalent radii; atoms within 0.2 count as bonded
COS_OPPOSITE = -0.85  # 148°
EMBEDDING_SECONDS = 30  # of the processor, for all trials of a molecule and the force field
TRIAL_SECONDS = 120  # of the clock, after which RDKit gives up a trial
ATTEMPTS = 10_000  # of one trial, times the atoms; RDKit makes ten for each atom
CAGE_ITERATIONS = 20
CAGE_TRIALS = 8


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
        If the seed is not an integer from 0 to 2**31 - 9, ``mol`` has more than `max_atoms`, or
        more than both `MAX_HEAVY_ATOMS` and `MAX_ATOMS`, no conformer with its stereochemistry is
        found, or none within `EMBEDDING_SECONDS`.
    KeyboardInterrupt
        If SIGINT comes while RDKit embeds.
    """
    seed = check_seed(seed)
    asked = Chem.AddHs(mol, addCoords=mol.GetNumConformers() > 0)
    n_heavy, n_atoms = mol.GetNumHeavyAtoms(), asked.GetNumAtoms()
    if n_heavy > MAX_HEAVY_ATOMS and n_atoms > MAX_ATOMS:
        raise InputError(
            f"{n_atoms} atoms, {n_heavy} without hydrogens, are too many to embed (at most "
            f"{MAX_ATOMS}, or {MAX_HEAVY_ATOMS} without hydrogens): give coordinates"
        )
    if max_atoms is not None and n_atoms > max_atoms:
        raise InputError(f"{n_atoms} atoms: not embedded, as at most {max_atoms} are used here")
    twists: dict[Torsion, float] = {}
    poses = []
    if asked.GetNumConformers() and asked.GetConformer().Is3D():
        assign_stereo(asked)
        twists = senses(asked)
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
            raise InputError(
                f"no 3D structure found for {smiles} in {EMBEDDING_SECONDS} s of processor time: "
                "give coordinates"
            )
        if not start:
            continue
        embedded = Chem.Mol(asked)
        embedded.AddConformer(trial.GetConformer())
        if is_torn(embedded) or (start != "mmff94" and _is_crowded(embedded)):
            continue
        if start == "embedded" and not all(map(_is_octahedral, _six_neighbours(embedded))):
            continue
        assign_stereo(embedded)
        found = senses(embedded)
        if embedded.HasSubstructMatch(asked, useChirality=True) and all(
            sense * found.get(twist, sense) > 0 for twist, sense in twists.items()
        ):
            return embedded, start
    if not (has_mmff94(asked) or rdForceFieldHelpers.UFFHasAllMoleculeParams(asked)):
        raise InputError(
            f"neither MMFF94 nor UFF has parameters for {smiles}, and embeddings alone have atoms "
            "too near each other: give coordinates"
        )
    raise InputError(
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
    return relax_freely(mol, twists, end)


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


def _is_crowded(mol: Chem.Mol) -> bool:
    """Tell whether atoms without a bond are nearly near enough for one.

    UFF does not see to it around atoms that it does not know, such as phosphorus with six bonds.
    """
    positions = mol.GetConformer().GetPositions()
    radii = covalent_radii[atomic_numbers(mol)]
    near = cdist(positions, positions) < radii[:, None] + radii + NO_BOND
    return bool((near & (Chem.GetDistanceMatrix(mol) > 1)).any())


def _six_neighbours(mol: Chem.Mol) -> Iterator[Chem.Atom]:
    """Yield atoms with six neighbours outside of rings, such as the sulfur of SF6."""
    return (atom for atom in mol.GetAtoms() if atom.GetDegree() == 6 and not atom.IsInRing())


def _is_octahedral(atom: Chem.Atom) -> bool:
    """Tell whether each of six neighbours has another one opposite."""
    positions = atom.GetOwningMol().GetConformer().GetPositions()
    bonds = positions[[near.GetIdx() for near in atom.GetNeighbors()]] - positions[atom.GetIdx()]
    bonds /= np.linalg.norm(bonds, axis=1, keepdims=True)
    return bool((bonds @ bonds.T < COS_OPPOSITE).any(axis=1).all())


def check_seed(seed: int) -> int:
    """Return the seed as an int, or raise ValueError if RDKit cannot take it and the next few."""
    try:
        number = operator.index(seed)
        if not isinstance(seed, bool) and 0 <= number < 2**31 - CAGE_TRIALS:
            return number
    except TypeError:
        pass
    raise InputError(f"seed {seed!r}: give an integer from 0 to {2**31 - CAGE_TRIALS - 1}")


def _embedding_trials(asked: Chem.Mol, seed: int, method: str) -> Iterator[tuple[Chem.Mol, Any]]:
    """Yield molecules to embed and how: by a method of RDKit, and then as small cages.

    In a small cage the neighbours of an atom can lie on one side of it, which RDKit's tests of its
    embeddings refuse. The trials for cages do without these tests, from random coordinates and
    without torsion preferences: RDKit then only guides chiral atoms to their configuration, so
    those left open are given one by chance. Atoms with six neighbours are asked to be octahedral.
    """
    asked = Chem.Mol(asked)
    for atom in _six_neighbours(asked):
        atom.SetChiralTag(Chem.ChiralType.CHI_OCTAHEDRAL)
        atom.SetIntProp("_chiralPermutation", 1)
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
