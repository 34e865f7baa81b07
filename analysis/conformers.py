"""Find conformers, and compare them with an exhaustive scan of torsions at the same level.

Run: python analysis/conformers.py analysis/results/conformers/conformers.json WORK
WORK is a folder that keeps relaxations of the scans; a run that was interrupted goes on from there.
Needs the package qm9pack.

RDKit takes part twice: with 500 embeddings, and with as many more, by doublings, as it takes to use
the processor time of the search.
"""

import contextlib
import itertools
import json
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from boltzmann import ROTOR
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolDescriptors, rdMolTransforms
from records import how_made, store

from diffrelax.cache import WorkFolder
from diffrelax.clock import Time
from diffrelax.data.qm9 import load_qm9
from diffrelax.levels.force_field import KCAL_PER_MOL
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import has_enantiomer, heavy_atom_rmsd
from diffrelax.sampling.conformers import (
    Conformer,
    Funnel,
    merge,
    relax_starts,
    sample_conformers,
)
from diffrelax.sampling.ensemble import Level

EMBEDDINGS = 500  # of RDKit, at first
MOST_EMBEDDINGS = 64_000
SEED = 42
LEVEL = Level(name="gfn2-xtb")
WINDOWS = (3.0, 6.0)  # kcal/mol
SPLITS = ("validation", "test")
COVERED = 0.125  # Å
MOLECULES = 10
EACH = 3  # molecules for each number of rotatable bonds
ROTATABLE = (3, 4, 5, 6)
LARGEST_SCAN = 1000
METHYL = Chem.MolFromSmarts("[CH3X4]")
AMINE = Chem.MolFromSmarts("[NX3;!H2;!$(N-[#6]=[#7,#8])]")  # a scan does not invert it


def main(path: Path, work: Path) -> None:
    """Measure the molecules that the file does not hold yet, the smallest scans first."""
    torch.set_num_threads(1)
    model = load_model()
    record = how_made(
        model,
        shared=True,
        command=shlex.join(["python", *sys.argv[:-1], "WORK"]),
        level=str(LEVEL),
        seed=SEED,
        molecules=json.loads(path.read_text())["molecules"] if path.exists() else [],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {one["smiles"] for one in record["molecules"]}
    for split in SPLITS:
        for smiles in choose(split):
            if smiles not in done:
                one = {"split": split} | measure(smiles, model, WorkFolder(work))
                record["molecules"].append(one)
                store(path, record)


def choose(split: str) -> list[str]:
    """Draw acyclic molecules of a split whose scan is not too long, ten at most."""
    smiles = load_qm9(split).smiles
    drawn: dict[int, list[tuple[int, str]]] = {n: [] for n in ROTATABLE}
    for i in np.random.default_rng(0).permutation(len(smiles)):
        text = smiles[i].decode()
        rdkit = Chem.MolFromSmiles(text)
        rotatable = rdMolDescriptors.CalcNumRotatableBonds(rdkit)
        if (
            rotatable not in drawn
            or rdkit.GetRingInfo().NumRings()
            or len(drawn[rotatable]) == EACH
        ):
            continue
        size = math.prod(len(angles) for _, angles in rotors(Chem.AddHs(rdkit)))
        if size <= LARGEST_SCAN and not rdkit.HasSubstructMatch(AMINE):
            drawn[rotatable].append((size, text))
    return [text for _, text in sorted(itertools.chain(*drawn.values()))][:MOLECULES]


def rotors(rdkit: Chem.Mol) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, ...]]]:
    """Yield a torsion of each single bond that turns, and the angles to scan, degrees."""
    methyls = {i for (i,) in rdkit.GetSubstructMatches(METHYL)}
    for j, k in rdkit.GetSubstructMatches(ROTOR):
        if methyls & {j, k}:
            continue
        ends = [
            [n.GetIdx() for n in rdkit.GetAtomWithIdx(a).GetNeighbors() if n.GetIdx() != b]
            for a, b in ((j, k), (k, j))
        ]
        bond = rdkit.GetBondBetweenAtoms(j, k)
        carbons = [a for a in (bond.GetBeginAtom(), bond.GetEndAtom()) if a.GetAtomicNum() == 6]
        if bond.GetIsConjugated():
            angles = (0, 180)
        elif any(atom.GetHybridization() == Chem.HybridizationType.SP2 for atom in carbons):
            angles = (0, 60, 120, 180, 240, 300)
        else:
            angles = (60, 180, 300)
        yield (ends[0][0], j, k, ends[1][0]), angles


def measure(smiles: str, model: Model, folder: WorkFolder) -> dict[str, object]:
    """Search one molecule in three ways and compare each with the scan."""
    molecule = Molecule.from_smiles(smiles, seed=SEED)
    reference, n_scanned = scan(molecule, folder)
    begun = Time.now()
    ensemble = sample_conformers(molecule, model, level=LEVEL, seed=SEED)
    time = Time.now() - begun
    ours = list(map(Conformer, ensemble.starts, ensemble.molecules, ensemble.energies.tolist()))
    arms = {"diffrelax": told(ours, reference, time) | ensemble.provenance.diagnostics}
    n_embeddings, used = EMBEDDINGS, 0.0
    while used < time.processor and n_embeddings <= MOST_EMBEDDINGS:
        begun = Time.now()
        relaxed = minima(rdkit_alone(molecule, n_embeddings), WorkFolder.of(None))
        rdkit_time = Time.now() - begun
        used = rdkit_time.processor
        name = "rdkit" if n_embeddings == EMBEDDINGS else "rdkit in the time"
        arms[name] = told(relaxed, reference, rdkit_time) | {"embeddings": n_embeddings}
        n_embeddings *= 2
    return {
        "smiles": smiles,
        "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds(Chem.MolFromSmiles(smiles)),
        "scanned": n_scanned,
        "reference": len(reference),
        "arms": arms,
    }


def scan(molecule: Molecule, folder: WorkFolder) -> tuple[list[Conformer], int]:
    """Set all torsions to all their angles, and relax every geometry that keeps its bonds."""
    rdkit = molecule.to_rdkit()
    torsions, angles = zip(*rotors(rdkit), strict=True)
    starts = []
    for point in itertools.product(*angles):
        turned = Chem.Mol(rdkit)
        conformer = turned.GetConformer()
        for torsion, degrees in zip(torsions, point, strict=True):
            rdMolTransforms.SetDihedralDeg(conformer, *torsion, float(degrees))
        with contextlib.suppress(ValueError):  # atoms in one place
            starts.append(Conformer(str(point), molecule.with_positions(conformer.GetPositions())))
    return minima(starts, folder), len(starts)


def minima(starts: list[Conformer], folder: WorkFolder) -> list[Conformer]:
    """Relax starts at the level of theory; those that fail or become another molecule are lost."""
    funnel = Funnel(LEVEL, folder)
    near, _ = relax_starts(starts, funnel.approach)
    ends, _ = relax_starts(funnel.choose(near)[0], funnel.finish)
    return merge(sorted(ends, key=lambda one: one.energy))


def rdkit_alone(molecule: Molecule, n_embeddings: int) -> list[Conformer]:
    """Embed with ETKDGv3, relax with MMFF94, and merge duplicates: RDKit and nothing else."""
    rdkit = molecule.to_rdkit()
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = SEED
    rdDistGeom.EmbedMultipleConfs(rdkit, n_embeddings, parameters)
    energies = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(rdkit, maxIters=2000)
    found = [
        Conformer("etkdg", molecule.with_positions(conformer.GetPositions()), e * KCAL_PER_MOL)
        for conformer, (_, e) in zip(rdkit.GetConformers(), energies, strict=True)
    ]
    return merge(sorted(found, key=lambda one: one.energy))


def told(found: list[Conformer], reference: list[Conformer], time: Time) -> dict[str, object]:
    """Say how much of the reference was found, counted from the lowest of both."""
    lowest = min(found[0].energy, reference[0].energy)
    hits = np.array([any(close(one.molecule, o.molecule) for o in found) for one in reference])
    above, ours = (
        np.array([(one.energy - lowest) / KCAL_PER_MOL for one in some])
        for some in (reference, found)
    )
    return {
        "lowest_kcal_mol": float(ours.min()),
        "windows": [
            {
                "window_kcal_mol": window,
                "found": int((ours < window).sum()),
                "reference": int((above < window).sum()),
                "covered": int(hits[above < window].sum()),
            }
            for window in WINDOWS
        ],
        "missed_kcal_mol": above[~hits].round(2).tolist(),
        "wall_seconds": time.wall,
        "processor_seconds": time.processor,
    }


def close(a: Molecule, b: Molecule) -> bool:
    """Compare heavy atoms and polar hydrogens, allowing for the mirror image of an achiral one."""
    images = [b] if has_enantiomer(b) else [b, b.with_positions(b.positions * [-1, 1, 1])]
    return any(heavy_atom_rmsd(a, image, polar_hydrogens=True) < COVERED for image in images)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
