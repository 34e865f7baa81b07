"""Canonical samples beside long reference chains of other code, and what they cost beside peers.

Run: python analysis/boltzmann.py analysis/results/boltzmann
Each molecule and each cost is measured once: a run that was interrupted goes on with the next.

Four acyclic saturated test molecules of QM9, with one to four rotatable bonds. Costs are with
tuning.

The reference is written with RDKit alone and shares no code with the sampler.
"""

import json
import sys
import time
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import units
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolDescriptors, rdMolTransforms
from records import how_made, store

from diffrelax import sample_boltzmann
from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.data.qm9 import load_qm9
from diffrelax.levels import Surface
from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, torsion_angles
from diffrelax.sampling.boltzmann.chains import Chains, Target
from diffrelax.sampling.boltzmann.diagnostics import Diagnostics
from diffrelax.sampling.boltzmann.kernels import CartesianStep, TorsionJump
from diffrelax.sampling.boltzmann.mixtures import Draws, Mixture, run, tune
from diffrelax.sampling.boltzmann.sampling import embed_starts, observables

ROTATABLE = (1, 2, 3, 4)
TEMPERATURE = 300.0  # K
N = 3000
CHAINS = 10
SEED = 7
WANTED = 500  # effective samples
PEERS = {"cartesian": 1.0, "cartesian, torsion jumps": 0.6}  # share of the Cartesian steps
PEER_TUNING, PEER_DRAWS, PEER_THIN = 2000, 400, 100
REFERENCE_STEPS, REFERENCE_CHAINS, REFERENCE_THIN, BURN_IN = 500_000, 4, 50, 0.1
WIDTH = 0.012  # Å
BLOCKS = 20  # of each reference chain
ROTOR = Chem.MolFromSmarts("[!$(*#*);!D1]-&!@[!$(*#*);!D1]")


def main(folder: Path) -> None:
    """Measure what the folder does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, smiles in choose().items():
        path = folder / f"{name}.json"
        record = json.loads(path.read_text()) if path.exists() else measure(smiles, name)
        costs = record["cost"]
        for sampler in PEERS:
            if sampler not in costs:
                found = peer_cost(sampler, Molecule.from_smiles(smiles))
                costs[sampler] = found | {"hardware": hardware()}
            store(path, record)


def choose() -> dict[str, str]:
    """Draw an acyclic saturated test molecule for each number of rotatable bonds."""
    tests = load_qm9("test")
    drawn: dict[int, tuple[str, str]] = {}
    for i in np.random.default_rng(1).permutation(len(tests)):
        smiles = tests.smiles[i].decode()
        rdkit = Chem.MolFromSmiles(smiles)
        rotatable = rdMolDescriptors.CalcNumRotatableBonds(rdkit)
        single = all(bond.GetBondType() == Chem.BondType.SINGLE for bond in rdkit.GetBonds())
        if rotatable in ROTATABLE and single and not rdkit.GetRingInfo().NumRings():
            drawn.setdefault(rotatable, (f"qm9-{tests.index[i]}", smiles))
        if len(drawn) == len(ROTATABLE):
            break
    return dict(drawn[rotatable] for rotatable in ROTATABLE)


def measure(smiles: str, name: str) -> dict[str, Any]:
    """Compare populations with the reference."""
    molecule = Molecule.from_smiles(smiles)
    quads = heavy_torsions(molecule)
    ours, path = sampled(smiles)
    angles, seconds = reference_chains(smiles, quads)
    populations = []
    for quad, here, there in zip(quads, torsion_angles(path.positions, quads), angles, strict=True):
        for well, inside in WELLS.items():
            value, error = mean_and_error(inside(here))
            known, known_error = blocked(inside(there))
            if not (error or known_error):  # neither ever goes there, or leaves
                continue
            populations.append(
                {
                    "torsion": "–".join(map(molecule.label, quad)),
                    "well": well,
                    "sample": value,
                    "sample_error": error,
                    "reference": known,
                    "reference_error": known_error,
                    "errors_apart": abs(value - known) / np.hypot(error, known_error),
                }
            )
    return how_made(hardware=hardware()) | {
        "molecule": name,
        "smiles": smiles,
        "level": "mmff94",
        "temperature": TEMPERATURE,
        "populations": populations,
        "reference": {
            "steps": REFERENCE_STEPS * REFERENCE_CHAINS,
            "chains": REFERENCE_CHAINS,
            "processor_seconds": seconds,
        },
        "effective_samples_wanted": WANTED,
        "cost": {"sample": ours},
    }


def hardware() -> str:
    """Describe where a cost was measured."""
    return describe_hardware("cpu") + ", one thread, shared with other work"


WELLS = {
    "trans": lambda phi: np.abs(phi) > 2 * np.pi / 3,
    "gauche+": lambda phi: (phi > 0) & (phi <= 2 * np.pi / 3),
    "gauche-": lambda phi: (phi < 0) & (phi >= -2 * np.pi / 3),
}


def heavy_torsions(molecule: Molecule) -> np.ndarray:
    """List the torsions of four heavy atoms."""
    pattern = Chem.MolFromSmarts("[!#1]~[!#1]-[!#1]~[!#1]")
    return np.array(molecule.to_rdkit().GetSubstructMatches(pattern))


def sampled(smiles: str) -> tuple[dict[str, object], Draws]:
    """Sample with the package as a user does."""
    begun = time.process_time()
    ensemble = sample_boltzmann(
        smiles, N, temperature=TEMPERATURE, n_chains=CHAINS, seed=SEED, progress=True
    )
    seconds = time.process_time() - begun
    provenance = ensemble.provenance
    steps = len(ensemble) * provenance.settings["thin"]
    shape = (-1, CHAINS)
    path = Draws(
        ensemble.positions.reshape(*shape, *ensemble.positions.shape[1:]),
        ensemble.energies.reshape(shape),
        provenance.diagnostics["acceptance"],
    )
    tuning = Cost(*(provenance.diagnostics["tuning"][cost.name] for cost in fields(Cost)))
    spent = Cost(steps, seconds - tuning.processor_seconds)
    return told(ensemble.molecule, path, tuning, spent), path


def peer_cost(peer: str, molecule: Molecule) -> dict[str, object]:
    """Sample with Metropolis Monte Carlo."""
    rng = np.random.default_rng(SEED)
    surface = Surface(molecule, "mmff94")
    target = Target(surface.energies, units.kB * TEMPERATURE)
    chains = Chains.start(embed_starts(molecule, CHAINS, SEED), surface.energies)
    kernels = [CartesianStep(WIDTH), TorsionJump(Rotors.of(molecule))]
    moves = Mixture(kernels, [PEERS[peer], 1 - PEERS[peer]])
    begun = time.process_time()
    chains, moves = tune(chains, moves, target, PEER_TUNING, rng, lambda: None)
    tuned = time.process_time()
    path = run(chains, moves, target, PEER_DRAWS, PEER_THIN, rng, lambda: None)
    tuning = Cost(PEER_TUNING * CHAINS, tuned - begun)
    spent = Cost(path.energies.size * PEER_THIN, time.process_time() - tuned)
    return told(molecule, path, tuning, spent)


@dataclass(frozen=True)
class Cost:
    """What a run or a part of it has cost."""

    energy_calls: float
    processor_seconds: float

    def scaled(self, factor: float) -> Self:
        """Return so many times the cost."""
        return type(self)(*(value * factor for value in astuple(self)))

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def told(molecule: Molecule, path: Draws, tuning: Cost, spent: Cost) -> dict[str, object]:
    """Say what the slowest observable's effective samples have cost."""
    found = Diagnostics.of(observables(molecule, path))
    lowest = float(np.min([*found.ess.values()]))  # NaN if an observable has no variance
    return {
        "lowest_ess": lowest,
        "ess": found.ess,
        "highest_rhat": max(found.rhat.values()),
        "doubts": found.doubts,
        "acceptance": path.acceptance,
        "tuning": asdict(tuning),
        "spent": asdict(spent),
        "for_wanted": asdict(tuning + spent.scaled(WANTED / lowest)),
        "mean_energy": mean_and_error(path.energies),
    }


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of (n_draws, n_chains) values and its standard error, by their ESS."""
    ess = Diagnostics.of({"x": values}).ess["x"]
    return float(values.mean()), float(values.std() / np.sqrt(ess))


def reference_chains(
    smiles: str, quads: np.ndarray, n_steps: int = REFERENCE_STEPS
) -> tuple[np.ndarray, float]:
    """Run Metropolis chains with RDKit: shifts of all atoms, and turns about single bonds.

    Returns
    -------
    (n_torsions, n_draws, n_chains) array, radians
    float
        Seconds of processor time.
    """
    begun = time.process_time()
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMultipleConfs(mol, REFERENCE_CHAINS, randomSeed=SEED)
    rng = np.random.default_rng(SEED)
    chains = [
        reference_chain(Chem.Mol(mol, False, i), quads, n_steps, rng)
        for i in range(REFERENCE_CHAINS)
    ]
    angles = np.moveaxis(np.array(chains), (0, 1, 2), (2, 1, 0))
    return angles[:, int(BURN_IN * angles.shape[1]) :], time.process_time() - begun


def reference_chain(
    mol: Chem.Mol, quads: np.ndarray, n_steps: int, rng: np.random.Generator
) -> list[list[float]]:
    """Run one chain from the conformer of a molecule; torsions of every draw, in radians."""
    conformer = mol.GetConformer()
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    thermal = units.kB * TEMPERATURE * units.mol / units.kcal
    rotors = [
        (before, j, k, after)
        for j, k in mol.GetSubstructMatches(ROTOR)
        for before in neighbours(mol, j, k)[:1]
        for after in neighbours(mol, k, j)[:1]
    ]
    positions = conformer.GetPositions()
    energy, draws = field.CalcEnergy(positions.ravel().tolist()), []
    for step in range(n_steps):
        if rng.random() < 0.6:
            proposed = positions + WIDTH * rng.normal(size=positions.shape)
        else:
            conformer.SetPositions(positions)
            rotor = rotors[rng.integers(len(rotors))]
            angle = rdMolTransforms.GetDihedralDeg(conformer, *rotor)
            rdMolTransforms.SetDihedralDeg(conformer, *rotor, angle + rng.uniform(-180, 180))
            proposed = conformer.GetPositions()
        new = field.CalcEnergy(proposed.ravel().tolist())
        if rng.random() < np.exp(min(0.0, (energy - new) / thermal)):
            positions, energy = proposed, new
        if step % REFERENCE_THIN == 0:
            conformer.SetPositions(positions)
            draws.append([rdMolTransforms.GetDihedralRad(conformer, *map(int, q)) for q in quads])
    return draws


def neighbours(mol: Chem.Mol, atom: int, other: int) -> list[int]:
    """List the atoms bonded to one, but for another."""
    return [a.GetIdx() for a in mol.GetAtomWithIdx(atom).GetNeighbors() if a.GetIdx() != other]


def blocked(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of (n_draws, n_chains) values and its standard error, by block means."""
    blocks = np.array([block.mean(axis=0) for block in np.array_split(values, BLOCKS)]).ravel()
    return float(values.mean()), float(blocks.std(ddof=1) / np.sqrt(blocks.size))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
