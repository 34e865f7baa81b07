"""What better starts and a Hessian save of a DFT relaxation, of QM9 test molecules and larger ones.

Run: OMP_NUM_THREADS=1 python analysis/dft_speedup.py analysis/results/dft_speedup [REPORT...]
Needs the packages pyscf-dispersion, sella and AcAuto3D, and the program xtb.

Five reports, or those that are named, each in a folder of its own, on relaxations that are kept in
the folder `units` beside them (pack_units.py). The whole takes days of one processor core:
the work goes from the most to the least important stage, whichever report it belongs to, a report
is written after each molecule that was not found done, and the same command goes on where it was
stopped. A report never shrinks: it has what is done of later stages too. Only a relaxation that
failed is not kept, and is missing until it is tried again in its turn.

`qm9` has the molecules of `small` and twenty larger ones. In `validation` the choice of the
optimizer is repeated on molecules that were made for choices.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import ase
import numpy as np
from pack_units import unpacked
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from records import how_made

from diffrelax.benchmark.speedup.arms import SpeedupArm, Subject, check_arms, combine
from diffrelax.benchmark.speedup.report import write_report
from diffrelax.benchmark.speedup.run import (
    Outcome,
    assign_basins,
    compare_arms,
    reference_settings,
    run_arm,
)
from diffrelax.benchmark.speedup.units import Units
from diffrelax.clock import Time
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft import DFTSettings
from diffrelax.levels.functionals import read_functional
from diffrelax.levels.pyscf_library import pyscf_threads
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.results.documents import FailureDocument, MinimisationDocument
from diffrelax.results.provenance import Provenance
from diffrelax.results.stored import read_finished
from diffrelax.store import Store
from diffrelax.training.geometries import GeometrySet

MODEL = "relax-qm9-2"
BASELINE = "denoise-qm9-1"
BASELINE_FILE = Path(__file__).parents[1] / f"models/{BASELINE}/checkpoints/step-65536.safetensors"
SEED = 42
WATTS = 12.0  # of a busy core, assumed
KNOWN = ("qm9", "embedded", BASELINE)
LARGE = {
    "acetanilide": "CC(=O)Nc1ccccc1",
    "menthone": "CC(C)[C@@H]1CC[C@@H](C)CC1=O",
    "methyl anthranilate": "COC(=O)c1ccccc1N",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
}
B3LYP = DFTSettings()
# ωB97X-V with D3(BJ) instead of its own dispersion
WB97X = DFTSettings(xc="wb97x-d3bj", basis="def2-tzvp")


def arms(starts: str, *recipes: str) -> list[SpeedupArm]:
    """Combine starts, separated by spaces, with recipes."""
    return combine(starts.split(), recipes)


HESSIAN = arms("mmff94 gfn2-xtb diffusion", "tric+hessian")
AIMNET2 = arms("mmff94 aimnet2 diffusion", "tric+aimnet2-hessian")
QM9 = arms("qm9", "tric+hessian")
DENOISED = arms(BASELINE, "tric+hessian")
WB97X_ARMS = arms("mmff94 diffusion", "tric+hessian")
WB97X_PEERS = arms("gfn2-xtb aimnet2", "tric+hessian")
OPTIMIZERS = arms("mmff94 gfn2-xtb diffusion", "tric+hessian", "bfgs+hessian")
BFGS = arms("mmff94 gfn2-xtb diffusion qm9", "bfgs+hessian")
PAPER = arms("mmff94 diffusion", "bfgs")
OTHERS = [
    *arms("mmff94 diffusion", "tric", "sella", "sella+hessian"),
    *arms("mmff94 gfn2-xtb diffusion", "geometric", "geometric+hessian"),
    *arms("gfn-ff aimnet2 embedded", "tric+hessian"),
    *arms("gfn2-xtb", "bfgs"),
]


@dataclass(frozen=True)
class Stage:
    """What is done next: the first so many molecules of a report, in some arms."""

    report: str
    n: int
    arms: list[SpeedupArm]


LEVELS = {
    "small": B3LYP,
    "large": B3LYP,
    "wb97x-d3bj": WB97X,
    "qm9": B3LYP,
    "validation": B3LYP,
}
SPLITS = {"large": "", "validation": "validation"}  # of the others: test
STAGES = (
    Stage("small", 20, HESSIAN + QM9),
    Stage("small", 8, BFGS),
    Stage("small", 10, PAPER),
    Stage("large", 4, HESSIAN),
    Stage("small", 20, PAPER),
    Stage("small", 5, OTHERS),
    Stage("small", 51, HESSIAN),
    Stage("small", 51, DENOISED),
    Stage("validation", 8, OPTIMIZERS),
    Stage("qm9", 71, HESSIAN + DENOISED),
    Stage("wb97x-d3bj", 10, WB97X_ARMS),
    Stage("wb97x-d3bj", 10, WB97X_PEERS),
    Stage("small", 20, AIMNET2),
    Stage("small", 10, OTHERS),
)


class FinishedWork(Store):
    """Raises FileNotFoundError for a unit that is not finished, so that none is calculated."""

    def find(self, key: str) -> dict[str, Any]:
        """Return the document of a finished unit."""
        found = super().find(key)
        if found is None or read_finished(found) is None:
            raise FileNotFoundError(f"{key} is not finished")
        return found


def main(folder: Path, reports: Sequence[str]) -> None:
    """Work through the stages of some reports."""
    for report in reports:
        if report not in LEVELS:
            raise ValueError(f"unknown report {report!r}: choose from {', '.join(LEVELS)}")
        read_functional(LEVELS[report].xc)
    stages = [stage for stage in STAGES if stage.report in reports]
    check_arms([arm for stage in stages for arm in stage.arms], KNOWN)
    geometries = load_qm9("test")
    baseline = Units(unpacked(folder), str(BASELINE_FILE))
    small = [with_baseline(s, baseline) for s in chosen(geometries, range(5, 8), 51)]
    larger = [with_baseline(s, baseline) for s in chosen(geometries, range(8, 10), 20)]
    subjects = {
        "small": small,
        "large": [embed(name, smiles, {}) for name, smiles in LARGE.items()],
        "wb97x-d3bj": sorted(small[:10], key=lambda subject: subject.base.n_atoms),
        "qm9": small + larger,
        "validation": list(chosen(load_qm9("validation"), range(5, 7), 8)),
    }
    work(folder, stages, subjects)


def with_baseline(subject: Subject, units: Units) -> Subject:
    """Add what the model without a bridge makes of the base to the known geometries."""
    start = units.start(subject, "diffusion").molecule
    return replace(subject, known=subject.known | ({BASELINE: start} if start else {}))


def work(folder: Path, stages: Sequence[Stage], subjects: Mapping[str, Sequence[Subject]]) -> None:
    """Work through stages, and write a report when more of it is known, and after each stage."""
    model = about_model(load_model(MODEL))
    found = find_finished(unpacked(folder).path, stages, subjects)
    units = Units(unpacked(folder), MODEL)
    written = 0
    for stage in stages:
        of_report, level = found[stage.report], LEVELS[stage.report]
        of_stage = subjects[stage.report][: stage.n]
        for subject in of_stage:
            wanted = add_to(of_report[subject.name], stage.arms)
            (outcomes,) = compare_arms([subject], wanted, level, units, progress=True)
            of_report[subject.name] = outcomes
            if units.calculated > written or subject is of_stage[-1]:
                write(folder / stage.report, of_report, model)
                written = units.calculated


def find_finished(
    units: Path, stages: Sequence[Stage], subjects: Mapping[str, Sequence[Subject]]
) -> dict[str, dict[str, list[Outcome]]]:
    """Return the arms for which nothing has to be calculated, by report and molecule."""
    finished = Units(FinishedWork(units), MODEL)
    found: dict[str, dict[str, list[Outcome]]] = {}
    for report, of_report in subjects.items():
        found[report] = {}
        for n, subject in enumerate(of_report):
            wanted = [s.arms for s in stages if s.report == report and n < s.n]
            arms = dict.fromkeys(chain.from_iterable(wanted))
            found[report][subject.name] = find_outcomes(subject, arms, LEVELS[report], finished)
    return found


def find_outcomes(
    subject: Subject, arms: Iterable[SpeedupArm], level: DFTSettings, finished: Units
) -> list[Outcome]:
    """Return the outcomes of the arms that are finished, those without a reference minimum too."""

    def find_reference(end: Molecule) -> MinimisationDocument | FailureDocument:
        try:
            return finished.relax(end, reference_settings(level))
        except FileNotFoundError:
            return FailureDocument(
                name=end.name,
                reason="not calculated yet",
                stage="reference",
                provenance=Provenance.here(),
            )

    outcomes = []
    for arm in arms:
        with suppress(FileNotFoundError):
            outcomes.append(run_arm(subject, arm, level, finished))
    return assign_basins(outcomes, find_reference)


def add_to(outcomes: Sequence[Outcome], more: Sequence[SpeedupArm]) -> list[SpeedupArm]:
    """Add arms to those of outcomes, each once."""
    return list(dict.fromkeys([*(outcome.arm for outcome in outcomes), *more]))


def write(folder: Path, found: Mapping[str, Sequence[Outcome]], model: Mapping[str, str]) -> None:
    """Write the report of a folder."""
    folder.mkdir(exist_ok=True)
    made = about(LEVELS[folder.name], SPLITS.get(folder.name, "test")) | model
    outcomes = [outcome for of_molecule in found.values() for outcome in of_molecule]
    write_report(folder, outcomes, made, WATTS)


def about(level: DFTSettings, split: str) -> dict[str, Any]:
    """Say how a result is made."""
    return how_made(split=split, seed=SEED, level=level.model_dump(), threads=pyscf_threads())


def about_model(model: Model) -> dict[str, str]:
    """Say which model takes part."""
    return {"model": model.name, "model_sha256": model.sha256}


def chosen(geometries: GeometrySet, heavy_atoms: range, n: int) -> Iterator[Subject]:
    """Choose molecules by their number of heavy atoms and the sha256 of their index."""
    for i in by_hash(geometries, heavy_atoms)[:n]:
        yield subject_of(geometries, i)


def by_hash(geometries: GeometrySet, heavy_atoms: range) -> list[int]:
    """Return the places of molecules of these sizes, in the order of the sha256 of their index."""
    places = np.flatnonzero(np.isin(geometries.heavy_sizes, heavy_atoms)).tolist()
    return sorted(places, key=lambda i: sha256(str(geometries.index[i]).encode()).hexdigest())


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
        return Subject(name, None, known=known, reason=f"not a molecule: {error}")
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
    main(Path(sys.argv[1]), sys.argv[2:] or list(LEVELS))
