"""Find conformers, and compare them with an exhaustive scan of torsions at the same level.

Run: python analysis/conformers.py analysis/results/conformers/conformers.json
or, of drug-like molecules, whose torsions are too many for a scan:
     python analysis/conformers.py analysis/results/conformers/drug-like.json --list SMILES.smi.gz
What is done is kept in `units` beside the file; a run that was interrupted continues from there.
Needs the package qm9pack.

RDKit takes part twice: with 500 embeddings, and with as many more, by doublings, as it takes to use
two thirds of the processor time of the search or more. Both relax to the same window, 6 kcal/mol,
at GFN2-xTB. Drug-like molecules have 3 kcal/mol as the window, AIMNet2 as the level, and in place
of a scan all that was found in any way as the reference, also by RDKit with ten times as many
embeddings as in the time of the search. They are test molecules of the list, neutral, the first in
the order of the sha256 of their constitution that are of 15 to 35 heavy atoms: two for each number
of rotatable bonds, and two with a ring of 9 to 14 atoms.
"""

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from boltzmann import ROTOR
from candidates import candidates
from pack_units import unpacked
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms
from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds
from records import how_made, store

from diffrelax.clock import Time
from diffrelax.data.qm9 import load_qm9
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import has_enantiomer
from diffrelax.sampling.conformers import (
    Conformer,
    Funnel,
    merge,
    read_conformer,
    sample_conformers,
    sort_out,
    write_conformer,
)
from diffrelax.sampling.ensemble import LevelSettings
from diffrelax.store import Store, work_key
from diffrelax.units import KCAL_PER_MOL

EMBEDDINGS = 500  # of RDKit, at first
MOST_EMBEDDINGS = 64_000
ENOUGH_TIME = 2 / 3  # of the model's
SEED = 42
SPLITS = ("validation", "test")
COVERED = 0.125  # Å
MOLECULES = 10
EACH = 3  # molecules for each number of rotatable bonds
ROTATABLE = (3, 4, 5, 6)
LARGEST_SCAN = 1000
DRUG_LIKE = "drug-like"
LEVELS = {**dict.fromkeys(SPLITS, "gfn2-xtb"), DRUG_LIKE: "aimnet2"}
WINDOWS = {**dict.fromkeys(SPLITS, (3.0, 6.0)), DRUG_LIKE: (3.0,)}  # kcal/mol
HEAVY = range(15, 36)
MACROCYCLE = range(9, 15)  # atoms in a ring
DRUG_LIKE_ROTATABLE = range(4, 11)
DRUG_LIKE_EACH = 2
LONGER = 10  # times as many embeddings, for the reference
METHYL = Chem.MolFromSmarts("[CH3X4]")
AMINE = Chem.MolFromSmarts("[NX3;!H2;!$(N-[#6]=[#7,#8])]")  # a scan does not invert it


def main() -> None:
    """Measure the molecules that the file does not hold yet, the smallest scans first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--list", type=Path, help="SMILES of drug-like molecules")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model()
    known = json.loads(options.file.read_text()) if options.file.exists() else {}
    if known.get("sha256", model.sha256) != model.sha256:
        parser.error(f"{options.file} was made with other weights: move it away")
    record = how_made(model, shared=True, levels=LEVELS, seed=SEED)
    record["chosen"] = known.get("chosen") or list(chosen(options.list))
    record["molecules"] = known.get("molecules", [])
    options.file.parent.mkdir(parents=True, exist_ok=True)
    done = {one["smiles"] for one in record["molecules"]}
    folder = unpacked(options.file.parent)
    for split, smiles in record["chosen"]:
        if smiles not in done:
            one = {"split": split} | measure(smiles, model, folder, split)
            record["molecules"].append(one)
            store(options.file, record)


def chosen(path: Path | None) -> Iterator[tuple[str, str]]:
    """Yield where a molecule is from, and its SMILES."""
    if path:
        yield from ((DRUG_LIKE, smiles) for smiles in drug_like(path))
        return
    for split in SPLITS:
        yield from ((split, smiles) for smiles in choose(split))


def drug_like(path: Path) -> list[str]:
    """Draw test molecules from a list: one of each kind, then the second of each."""
    drawn: dict[int | str, list[str]] = {n: [] for n in (*DRUG_LIKE_ROTATABLE, "macrocycle")}
    for one in candidates(path, "test", DRUG_LIKE):
        if one.charge or one.heavy not in HEAVY:
            continue
        rdkit = Chem.MolFromSmiles(one.smiles)
        is_large = any(len(ring) in MACROCYCLE for ring in rdkit.GetRingInfo().AtomRings())
        kind = "macrocycle" if is_large else CalcNumRotatableBonds(rdkit)
        if kind in drawn and len(drawn[kind]) < DRUG_LIKE_EACH:
            drawn[kind].append(one.smiles)
    return list(itertools.chain(*zip(*drawn.values(), strict=True)))


def choose(split: str) -> list[str]:
    """Draw acyclic molecules of a split whose scan is not too long, ten at most."""
    smiles = load_qm9(split).smiles
    drawn: dict[int, list[tuple[int, str]]] = {n: [] for n in ROTATABLE}
    for i in np.random.default_rng(0).permutation(len(smiles)):
        text = smiles[i].decode()
        rdkit = Chem.MolFromSmiles(text)
        rotatable = CalcNumRotatableBonds(rdkit)
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


def measure(smiles: str, model: Model, folder: Store, split: str) -> dict[str, object]:
    """Search one molecule in three ways and compare each with the reference."""
    molecule = Molecule.from_smiles(smiles, seed=SEED)
    level, window = LevelSettings(name=LEVELS[split]), max(WINDOWS[split])
    arms = {"diffrelax": by_model(molecule, model, level, folder, window)}
    enough, ratio = EMBEDDINGS, math.inf
    while ratio > 1 / ENOUGH_TIME and enough <= MOST_EMBEDDINGS:
        last, arm = enough, by_rdkit(molecule, enough, level, folder, window)
        arms["rdkit" if enough == EMBEDDINGS else "rdkit in the time"] = arm
        ratio = arms["diffrelax"]["time"]["processor"] / arm["time"]["processor"]
        enough *= 2 ** math.ceil(math.log2(max(ratio, 2)))  # fewer would take less time
    if split == DRUG_LIKE:
        arms["rdkit, longer"] = by_rdkit(molecule, LONGER * last, level, folder, window)
    found = {name: list(map(read_conformer, arm["conformers"])) for name, arm in arms.items()}
    if split == DRUG_LIKE:
        everything = itertools.chain(*found.values())
        reference, n_scanned = merge(sorted(everything, key=lambda one: one.energy)), 0
    else:
        reference, n_scanned = scan(molecule, level, folder)
    return {
        "smiles": smiles,
        "rotatable_bonds": CalcNumRotatableBonds(Chem.MolFromSmiles(smiles)),
        "scanned": n_scanned,
        "reference": len(reference),
        "arms": {
            name: told(found[name], reference, Time(**arm["time"]), WINDOWS[split]) | arm["about"]
            for name, arm in arms.items()
        },
    }


Arm = dict[str, Any]


def kept(folder: Store, key: str, search: Callable[[], Arm]) -> Arm:
    """Search, and take the time, or find what was searched before."""

    def work() -> Arm:
        begun = Time.now()
        arm = search()
        return arm | {"time": asdict(Time.now() - begun)}

    return folder.find_or_do(key, work)


def by_model(
    molecule: Molecule, model: Model, level: LevelSettings, folder: Store, window: float
) -> Arm:
    """Search with the model."""
    settings = {"way": "model", "level": str(level), "window": window}
    key = work_key("conformers", molecule, settings, model_sha256=model.sha256, seed=SEED)

    def search() -> Arm:
        found = sample_conformers(molecule, model, level=level, window=window, seed=SEED)
        ours = map(Conformer, found.starts, found.molecules, found.energies.tolist())
        return arm_of(ours, found.provenance.diagnostics)

    return kept(folder, key, search)


def by_rdkit(
    molecule: Molecule, n_embeddings: int, level: LevelSettings, folder: Store, window: float
) -> Arm:
    """Embed and relax with RDKit, then relax at the level."""
    about = {"embeddings": n_embeddings}
    settings = {"way": "rdkit", "level": str(level), "window": window} | about
    key = work_key("conformers", molecule, settings, seed=SEED)

    def search() -> Arm:
        funnel = Funnel(level, Store(None), window)
        return arm_of(minima(rdkit_alone(molecule, n_embeddings), funnel), about)

    return kept(folder, key, search)


def arm_of(conformers: Iterable[Conformer], about: Mapping[str, Any]) -> Arm:
    """Write down what was found."""
    return {"conformers": [write_conformer(one) for one in conformers], "about": dict(about)}


def scan(molecule: Molecule, level: LevelSettings, folder: Store) -> tuple[list[Conformer], int]:
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
    return minima(starts, Funnel(level, folder)), len(starts)


def minima(starts: list[Conformer], funnel: Funnel) -> list[Conformer]:
    """Relax starts at the level of theory; those that fail or become another molecule are lost."""
    near, _ = sort_out(starts, funnel.approach(starts))
    low, _ = funnel.choose(near)
    ends, _ = sort_out(low, funnel.finish(low))
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


def told(
    found: list[Conformer], reference: list[Conformer], time: Time, windows: Iterable[float]
) -> dict[str, object]:
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
            for window in windows
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
    main()
