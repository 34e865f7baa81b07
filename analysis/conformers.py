"""Find conformers, and compare them with an exhaustive scan of torsions at the same level.

Run: python analysis/conformers.py analysis/results/conformers/conformers.json WORK
WORK is a folder that keeps relaxations; a run that was interrupted goes on from there.
Needs the package qm9pack and the program xtb.
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
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolDescriptors, rdMolTransforms
from tqdm import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.cache import WorkFolder
from diffrelax.clock import Time
from diffrelax.data.qm9 import load_qm9
from diffrelax.levels import get_calculator
from diffrelax.levels.force_field import KCAL_PER_MOL
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.identity import has_enantiomer, heavy_atom_rmsd
from diffrelax.sampling.conformers import Conformer, merge, relax_conformer, sample_conformers
from diffrelax.sampling.ensemble import Level

MODEL = Path(__file__).parents[1] / "models" / "relax-qm9-1"
N = 100
EMBEDDINGS = 5 * N  # of RDKit, as many as the search may try
SEED = 42
LEVEL = Level(name="gfn2-xtb", settings={"program": "xtb"})
WINDOW = 6.0  # kcal/mol
COVERED = 0.125  # Å
EACH = 3  # molecules for each number of rotatable bonds
ROTATABLE = (3, 4, 5, 6)
LARGEST_SCAN = 1000
ROTOR = Chem.MolFromSmarts("[!$(*#*);!D1]-&!@[!$(*#*);!D1]")
METHYL = Chem.MolFromSmarts("[CH3X4]")
AMINE = Chem.MolFromSmarts("[NX3;!H2;!$(N-[#6]=[#7,#8])]")  # a scan does not invert it


def main(path: Path, work: Path) -> None:
    """Measure the molecules that the file does not hold yet, the smallest scans first."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "split": "validation",
        "model": model.name,
        "sha256": model.sha256,
        "level": str(LEVEL),
        "n": N,
        "embeddings": EMBEDDINGS,
        "seed": SEED,
        "hardware": describe_hardware("cpu") + ", shared with other work",
        "molecules": json.loads(path.read_text())["molecules"] if path.exists() else [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {one["smiles"] for one in record["molecules"]}
    for smiles in choose():
        if smiles not in done:
            record["molecules"].append(measure(smiles, model, WorkFolder(work)))
            with replacing(path) as part:
                part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def choose() -> list[str]:
    """Draw acyclic molecules of the validation split whose scan is not too long."""
    smiles = load_qm9("validation").smiles
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
    return [text for _, text in sorted(itertools.chain(*drawn.values()))]


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
    ensemble = sample_conformers(molecule, model, N, level=LEVEL, seed=SEED)
    ours_time = Time.now() - begun
    ours = list(map(Conformer, ensemble.starts, ensemble.molecules, ensemble.energies))
    begun = Time.now()
    plain = rdkit_alone(molecule)
    plain_time = Time.now() - begun
    begun = Time.now()
    relaxed = minima(plain, WorkFolder.of(None))
    relaxed_time = plain_time + (Time.now() - begun)
    lowest = reference[0].energy
    within = [one for one in reference if one.energy - lowest < WINDOW * KCAL_PER_MOL]
    return {
        "smiles": smiles,
        "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds(Chem.MolFromSmiles(smiles)),
        "scanned": n_scanned,
        "reference": len(reference),
        "reference_within_window": len(within),
        "arms": {
            "diffrelax": told(ours, within, ours_time),
            "etkdg-mmff94": told(at_level(plain), within, plain_time),
            "etkdg-mmff94, gfn2-xtb": told(relaxed, within, relaxed_time),
        },
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
    bar = tqdm(starts, starts[0].molecule.name, unit="conf", disable=None)
    ends = [relax_conformer(start, LEVEL, folder) for start in bar]
    return merge(sorted((end for end, reason in ends if not reason), key=lambda one: one.energy))


def rdkit_alone(molecule: Molecule) -> list[Conformer]:
    """Embed with ETKDGv3, relax with MMFF94, and merge duplicates: RDKit and nothing else."""
    rdkit = molecule.to_rdkit()
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = SEED
    rdDistGeom.EmbedMultipleConfs(rdkit, EMBEDDINGS, parameters)
    energies = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(rdkit, maxIters=2000)
    found = [
        Conformer("etkdg", molecule.with_positions(conformer.GetPositions()), e * KCAL_PER_MOL)
        for conformer, (_, e) in zip(rdkit.GetConformers(), energies, strict=True)
    ]
    return merge(sorted(found, key=lambda one: one.energy))


def at_level(conformers: list[Conformer]) -> list[Conformer]:
    """Give geometries their energy at the level of theory, as they stand."""
    atoms = conformers[0].molecule.to_atoms()
    atoms.calc = get_calculator(LEVEL.name, conformers[0].molecule, **LEVEL.settings)
    found = []
    for one in conformers:
        atoms.positions = one.molecule.positions
        found.append(Conformer(one.start, one.molecule, atoms.get_potential_energy()))
    return found


def told(found: list[Conformer], within: list[Conformer], time: Time) -> dict[str, object]:
    """Say how much of the reference within the window was found."""
    lowest = within[0].energy
    covered = [any(close(one.molecule, other.molecule) for other in found) for one in within]
    return {
        "found": len(found),
        "lowest_kcal_mol": (min(one.energy for one in found) - lowest) / KCAL_PER_MOL,
        "covered": sum(covered),
        "missed_kcal_mol": [
            round((one.energy - lowest) / KCAL_PER_MOL, 2)
            for one, hit in zip(within, covered, strict=True)
            if not hit
        ],
        "wall_seconds": time.wall,
        "processor_seconds": time.processor,
    }


def close(a: Molecule, b: Molecule) -> bool:
    """Compare heavy atoms and polar hydrogens, allowing for the mirror image of an achiral one."""
    images = [b] if has_enantiomer(b) else [b, b.with_positions(b.positions * [-1, 1, 1])]
    return any(heavy_atom_rmsd(a, image, polar_hydrogens=True) < COVERED for image in images)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
