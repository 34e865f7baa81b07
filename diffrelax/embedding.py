"""Three-dimensional structures for molecules that have none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from diffrelax.perception import TETRAHEDRAL, assign_stereo

EMBEDDING_SECONDS = 60
BRIEF_ITERATIONS = 20
CAGE_TRIALS = 8
FORCE_FIELD_ROUNDS = 20
STEPS_A_ROUND = 1000


def embed(mol: Chem.Mol, seed: int) -> tuple[Chem.Mol, str]:
    """Embed a molecule with ETKDGv3 and relax it with MMFF94, or UFF without its parameters.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Hydrogens are added after the other atoms.
    seed : int

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
        If no conformer with the stereochemistry of ``mol`` is found.
    """
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        assign_stereo(mol)
    asked = Chem.AddHs(mol)
    asked.RemoveAllConformers()
    for trial, parameters in _embedding_trials(asked, seed):
        if rdDistGeom.EmbedMolecule(trial, parameters) != 0:
            continue
        start = _relax(trial)
        embedded = Chem.Mol(asked)
        embedded.AddConformer(trial.GetConformer())
        assign_stereo(embedded)
        if embedded.HasSubstructMatch(asked, useChirality=True):
            return embedded, start
    raise ValueError(
        f"no 3D structure found for {Chem.MolToSmiles(Chem.RemoveHs(asked))}: check its "
        "stereochemistry and rings, try another seed, or give coordinates"
    )


def _embedding_trials(asked: Chem.Mol, seed: int) -> Iterator[tuple[Chem.Mol, Any]]:
    """Yield molecules to embed and how: briefly, for small cages, and thoroughly.

    In a small cage the neighbours of an atom can lie on one side of it, which RDKit's tests of its
    embeddings refuse. The trials for cages do without these tests: RDKit then only guides chiral
    atoms to their configuration, so those left open are given one by chance.
    """
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.timeout = EMBEDDING_SECONDS
    parameters.maxIterations = BRIEF_ITERATIONS
    yield Chem.Mol(asked), parameters
    chance = random.Random(seed)
    for i in range(CAGE_TRIALS):
        trial = Chem.Mol(asked)
        for atom in trial.GetAtoms():
            if atom.GetDegree() == 4 and atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
                atom.SetChiralTag(chance.choice(TETRAHEDRAL))
        cage: Any = rdDistGeom.EmbedParameters()
        cage.randomSeed = seed + i
        cage.timeout = EMBEDDING_SECONDS
        cage.maxIterations = BRIEF_ITERATIONS
        cage.useRandomCoords = True
        cage.enforceChirality = False
        yield trial, cage
    parameters.useRandomCoords = True
    parameters.maxIterations = 0
    yield Chem.Mol(asked), parameters


def _relax(mol: Chem.Mol) -> str:
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        name = "mmff94"
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            mol, properties, ignoreInterfragInteractions=False
        )
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        name = "uff"
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol, ignoreInterfragInteractions=False)
    else:
        return "embedded"
    for _ in range(FORCE_FIELD_ROUNDS):
        if field.Minimize(maxIts=STEPS_A_ROUND) == 0:
            return name
    return f"{name} unconverged"
