"""Embedding trials with RDKit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from rdkit import Chem, DistanceGeometry
from rdkit.Chem import rdDistGeom

from diffrelax.molecule.force_fields import FRAGMENT_GAP
from diffrelax.molecule.stereo import TETRAHEDRAL

Method: TypeAlias = Literal["ETKDGv3", "KDG"]
Trial: TypeAlias = tuple[Chem.Mol, Any]  # a molecule and how to embed it

TRIAL_SECONDS = 120  # wall time after which RDKit abandons a trial
ATTEMPTS = 10_000  # per trial, times the number of atoms; RDKit's default is ten per atom
CAGE_ITERATIONS = 20
CAGE_TRIALS = 8
RING_TRIALS, RING_ITERATIONS = 4, 10  # for molecules with a strained ring
RING_CAGE_TRIALS, FEWEST = 1200, 8  # divided by the number of atoms; takes about a second


def embedding_trials(asked: Chem.Mol, seed: int, method: Method) -> Iterator[Trial]:
    """Yield molecules with embedding parameters: those of a method of RDKit, then for cages.

    In a small cage the neighbours of an atom can be on one side of it, which RDKit rejects. The
    trials for cages omit this test and use random coordinates without torsion preferences;
    unspecified chiral atoms get a random configuration. Atoms with six neighbours are made
    octahedral.
    """
    asked = _with_octahedra(asked)
    parameters = _by_method(method, seed)
    parameters.maxIterations = min(10 * asked.GetNumAtoms(), ATTEMPTS // asked.GetNumAtoms())
    yield Chem.Mol(asked), parameters
    parameters.useRandomCoords = True
    yield Chem.Mol(asked), parameters
    yield from _as_cages(asked, [seed + i for i in range(CAGE_TRIALS)], random.Random(seed))


def ring_trials(asked: Chem.Mol, seed: int) -> Iterator[Trial]:
    """Yield trials for a molecule with a strained ring: a few with KDG, more as small cages.

    RDKit rejects most such rings after many attempts.
    """
    asked = _with_octahedra(asked)
    chance = random.Random(seed)
    n_trials = max(FEWEST, RING_CAGE_TRIALS // asked.GetNumAtoms())
    seeds = [chance.randrange(2**31 - 1) for _ in range(n_trials)]
    for one in seeds[:RING_TRIALS]:
        parameters = _by_method("KDG", one)
        parameters.maxIterations = RING_ITERATIONS
        yield Chem.Mol(asked), parameters
    yield from _as_cages(asked, seeds, chance)


def _by_method(method: Method, seed: int) -> Any:
    parameters: Any = getattr(rdDistGeom, method)()
    parameters.randomSeed = seed
    parameters.timeout = TRIAL_SECONDS
    parameters.trackFailures = True
    return parameters


def _as_cages(asked: Chem.Mol, seeds: list[int], chance: random.Random) -> Iterator[Trial]:
    for seed in seeds:
        trial = Chem.Mol(asked)
        for atom in trial.GetAtoms():
            if atom.GetDegree() == 4 and atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
                atom.SetChiralTag(chance.choice(TETRAHEDRAL))
        cage: Any = rdDistGeom.EmbedParameters()
        cage.randomSeed = seed
        cage.timeout = TRIAL_SECONDS
        cage.trackFailures = True
        cage.maxIterations = CAGE_ITERATIONS
        cage.useRandomCoords = True
        cage.enforceChirality = False
        yield trial, cage


def _with_octahedra(mol: Chem.Mol) -> Chem.Mol:
    mol = Chem.Mol(mol)
    for atom in six_neighbours(mol):
        atom.SetChiralTag(Chem.ChiralType.CHI_OCTAHEDRAL)
        atom.SetIntProp("_chiralPermutation", 1)
    return mol


def six_neighbours(mol: Chem.Mol) -> Iterator[Chem.Atom]:
    """Yield atoms with six neighbours outside of rings, such as the sulfur of SF6."""
    return (atom for atom in mol.GetAtoms() if atom.GetDegree() == 6 and not atom.IsInRing())


def embedded_by_rdkit(mol: Chem.Mol, parameters: Any) -> bool:
    """Embed a molecule in place, its fragments side by side along x; return whether it worked.

    Raises
    ------
    KeyboardInterrupt
        If SIGINT arrives during the embedding.
    """
    if rdDistGeom.EmbedMolecule(mol, parameters) != 0:
        _pass_on_interrupt(mol, parameters)
        return False
    _separate_fragments(mol)
    return True


def _pass_on_interrupt(mol: Chem.Mol, parameters: Any) -> None:
    """Raise KeyboardInterrupt if an embedding ended before its last attempt.

    RDKit catches SIGINT while it embeds, and only reports a failure.
    """
    failures = parameters.GetFailureCounts()
    in_time = not failures[rdDistGeom.EmbedFailureCauses.EXCEEDED_TIMEOUT]
    if in_time and sum(failures) < parameters.maxIterations:
        bounds = rdDistGeom.GetMoleculeBoundsMatrix(
            mol, set15bounds=False, doTriangleSmoothing=False
        )
        if DistanceGeometry.DoTriangleSmoothing(bounds):  # otherwise no attempt was made
            raise KeyboardInterrupt


def _separate_fragments(mol: Chem.Mol) -> None:
    """Place the fragments, which RDKit puts around the origin, side by side along x."""
    fragments = Chem.GetMolFrags(mol)
    if len(fragments) == 1:
        return
    positions = mol.GetConformer().GetPositions()
    edge = 0.0
    for fragment in map(list, fragments):
        positions[fragment] -= [positions[fragment, 0].min() - edge, 0, 0]
        edge = positions[fragment, 0].max() + FRAGMENT_GAP
    mol.GetConformer().SetPositions(np.ascontiguousarray(positions))
