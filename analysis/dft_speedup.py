"""What better starts and a Hessian save of a DFT relaxation, of QM9 test molecules and larger ones.

Run: OMP_NUM_THREADS=1 python analysis/dft_speedup.py analysis/results/dft_speedup
Needs the packages pyscf-dispersion, sella and AcAuto3D, and the program xtb.

Four reports, each in a folder of its own, on relaxations that are kept as one line of JSON each in
the folder `units` beside them. The whole takes days of one processor core: the work goes from the
most to the least important, the reports are written after each molecule, and the same command goes
on where it was stopped.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase
from pyscf.lib import num_threads
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffrelax.benchmark.hardware import describe_hardware
from diffrelax.benchmark.speedup import Outcome, compare_arms
from diffrelax.benchmark.speedup_arms import SpeedupArm, Subject, check_arms, combine
from diffrelax.benchmark.speedup_report import write_report
from diffrelax.benchmark.speedup_units import Units
from diffrelax.clock import Time
from diffrelax.dft import DFTSettings
from diffrelax.levels.density_functional import check_functional
from diffrelax.models import load_model
from diffrelax.molecule import Molecule
from diffrelax.qm9 import load_qm9
from diffrelax.training.geometries import GeometrySet
from diffrelax.work import WorkFolder

MODEL = "relax-qm9-1"
SEED = 42
WATTS = 12.0  # of a busy core, assumed
KNOWN = ("qm9", "embedded")
LARGE = {
    "acetanilide": "CC(=O)Nc1ccccc1",
    "menthone": "CC(C)[C@@H]1CC[C@@H](C)CC1=O",
    "methyl anthranilate": "COC(=O)c1ccccc1N",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
}
B3LYP = DFTSettings()
WB97X = DFTSettings(xc="wb97x-d3bj", basis="def2-tzvp")


def arms(starts: str, *recipes: str) -> list[SpeedupArm]:
    """Combine starts, separated by spaces, with recipes."""
    return combine(starts.split(), recipes)


HESSIAN = arms("mmff94 gfn2-xtb diffusion", "bfgs+hessian")
AIMNET2 = arms("mmff94 aimnet2 diffusion", "bfgs+aimnet2-hessian")
PAPER = arms("mmff94 diffusion", "bfgs")
OTHERS = [
    *arms("mmff94 gfn2-xtb diffusion", "geometric", "geometric+hessian"),
    *arms("mmff94 diffusion", "sella", "sella+hessian"),
    *arms("gfn-ff aimnet2 qm9 embedded", "bfgs+hessian"),
    *arms("gfn2-xtb", "bfgs"),
]


@dataclass(frozen=True)
class Stage:
    """What is done next: the first so many molecules of a report in more arms than before."""

    report: str
    n: int
    arms: list[SpeedupArm]


LEVELS = {"small": B3LYP, "nine": B3LYP, "large": B3LYP, "wb97x-d3bj": WB97X}
STAGES = (
    Stage("small", 51, HESSIAN),
    Stage("small", 20, AIMNET2),
    Stage("small", 20, PAPER),
    Stage("small", 10, OTHERS),
    Stage("nine", 6, HESSIAN),
    Stage("large", 4, HESSIAN),
    Stage("wb97x-d3bj", 10, arms("mmff94 diffusion", "bfgs+hessian")),
)


def main(folder: Path) -> None:
    """Work through the stages."""
    check_arms([arm for stage in STAGES for arm in stage.arms], KNOWN)
    for level in LEVELS.values():
        check_functional(level.xc)
    geometries = load_qm9("test")
    subjects = {"small": list(chosen(geometries, range(5, 8), 51))}
    subjects |= {
        "nine": list(chosen(geometries, range(9, 10), 6)),
        "large": [embed(name, smiles, {}) for name, smiles in LARGE.items()],
        "wb97x-d3bj": subjects["small"],
    }
    units = Units(WorkFolder(folder / "units"), MODEL)
    for report in LEVELS:
        run(folder / report, [s for s in STAGES if s.report == report], subjects[report], units)


def run(folder: Path, stages: list[Stage], subjects: list[Subject], units: Units) -> None:
    """Work through the stages of one report, and write it after each molecule."""
    folder.mkdir(exist_ok=True)
    level = LEVELS[folder.name]
    so_far: list[SpeedupArm] = []
    outcomes: dict[str, list[Outcome]] = {}
    split = "" if folder.name == "large" else "test"
    made = about(level, split) | about_model(MODEL)
    for stage in stages:
        so_far = so_far + stage.arms
        for subject in subjects[: stage.n]:
            (outcomes[subject.name],) = compare_arms([subject], so_far, level, units, progress=True)
            found = [outcome for of_one in outcomes.values() for outcome in of_one]
            write_report(folder, found, made, WATTS)


def about(level: DFTSettings, split: str) -> dict[str, Any]:
    """Say how a result is made."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "split": split,
        "seed": SEED,
        "level": level.model_dump(),
        "hardware": describe_hardware("cpu"),
        "threads": num_threads(),
    }


def about_model(name: str) -> dict[str, str]:
    """Say which model takes part."""
    loaded = load_model(name)
    return {"model": loaded.name, "model_sha256": loaded.sha256}


def chosen(geometries: GeometrySet, heavy_atoms: range, n: int) -> Iterator[Subject]:
    """Choose molecules by their number of heavy atoms and the sha256 of their index."""
    heavy = [int((geometries.numbers[geometries.atoms(i)] > 1).sum())
             for i in range(len(geometries))]  # fmt: skip
    eligible = [i for i in range(len(geometries)) if heavy[i] in heavy_atoms]
    eligible.sort(key=lambda i: sha256(str(int(geometries.index[i])).encode()).hexdigest())
    for i in eligible[:n]:
        yield subject_of(geometries, i)


def subject_of(geometries: GeometrySet, i: int) -> Subject:
    """Embed a molecule from its isomeric SMILES; its QM9 geometry and raw embedding are known."""
    rows = geometries.atoms(i)
    name, smiles = f"qm9-{geometries.index[i]}", geometries.smiles[i].decode()
    info = {"name": name, "smiles": smiles}
    atoms = ase.Atoms(geometries.numbers[rows], geometries.positions[rows].astype(float), info=info)
    known = {"qm9": Molecule.from_atoms(atoms)}
    if embedded := raw_embedding(smiles, name):
        known["embedded"] = embedded
    return embed(name, smiles, known)


def embed(name: str, smiles: str, known: dict[str, Molecule]) -> Subject:
    """Make the geometry from which all arms start, and take the time."""
    begun = Time.now()
    try:
        base = Molecule.from_smiles(smiles, name=name, seed=SEED)
    except ValueError as error:
        return Subject(name, None, known=known, reason=str(error))
    return Subject(name, base, Time.now() - begun, known)


def raw_embedding(smiles: str, name: str) -> Molecule | None:
    """Return the embedding from which the base was relaxed; None where ETKDGv3 alone fails."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = SEED
    if rdDistGeom.EmbedMolecule(mol, parameters) != 0:
        return None
    return Molecule.from_rdkit(mol, name=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
