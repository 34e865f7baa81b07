"""What a model knows at each checkpoint of its training: its steps against DFT forces and Hessians.

Run: OMP_NUM_THREADS=1 python analysis/learning.py models/denoise-qm9-1 analysis/results/learning

The DFT calculations go from the most to the least important, each is kept in the folder `units`
beside the result (those that no model takes part in serve every model), and the result is written
after each of them: the same command goes on where it was stopped, also with more checkpoints.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import SCFError
from dft_speedup import by_hash
from pack_units import unpacked
from paper.learning import Agreement, newton_agreement, relaxation_chain, step_agreement
from records import how_made, store
from tqdm import tqdm

from diffrelax.benchmark.sample import TRAINED_ON
from diffrelax.benchmark.speedup.units import dft_unit
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft import DFTSettings
from diffrelax.geometry import superpose
from diffrelax.levels.density_functional import DensityFunctional, mean_field
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.stored import read_document
from diffrelax.store import Store, work_key

LEVELS = np.geomspace(0.07, 0.01, 60).round(5).tolist()  # Å; the fine chain
PLACES = (0, 8, 15, 23, 30)
SPANS = (1, 10, 30)
N_MOLECULES = 20
N_FIRST = 6  # molecules whose forces and relaxations come before the forces of the others
N_HESSIANS = 3
SETTINGS = DFTSettings(optimizer="bfgs")
LEVEL = SETTINGS.mean_field

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A test molecule at its MMFF94 geometry, the published minimum of its basin, and its chains.

    Parameters
    ----------
    start : Molecule
    published : (n_atoms, 3) array, Å
    chains : dict
        By training step: the geometries of the relaxation chain, (n_levels + 1, n_atoms, 3) array.
    """

    start: Molecule
    published: np.ndarray
    chains: dict[int, np.ndarray]


@dataclass(frozen=True)
class Unit:
    """A calculation for a molecule that is done once."""

    name: str
    key: str
    calculate: Callable[[], Record]


def main(model_folder: Path, folder: Path) -> None:
    """Work through the units, and write the result after each."""
    work = unpacked(folder)
    models = [load_model(file) for file in checkpoint_files(model_folder)]
    hours = training_hours(model_folder, [model.step for model in models])
    subjects = [
        Subject(start, published, {m.step: relaxation_chain(m, start, LEVELS) for m in models})
        for start, published in tqdm(molecules(), desc="chains", unit="mol")
    ]
    about = how_made() | {
        "model": models[0].name,
        "sha256": [model.sha256 for model in models],
        "split": f"test, {len(subjects)} molecules of 4 to 6 heavy atoms",
        "starts": "MMFF94 relaxations of the published minima, within their basins",
        "steps": [model.step for model in models],
        "hours": hours,
        "levels_angstrom": LEVELS,
        "places": PLACES,
        "spans": SPANS,
        "settings": SETTINGS.model_dump(),
    }
    path = folder / f"{models[0].name}.json"
    left = [unit for unit in units(subjects, models) if work.find(unit.key) is None]
    records = {subject.start.name: record(subject, models, work) for subject in subjects}
    if not left:
        store(path, about | {"molecules": list(records.values())}, indent=None)
    for unit in tqdm(left, unit="calculation", smoothing=0):
        work.keep(unit.key, unit.calculate())
        (subject,) = (s for s in subjects if s.start.name == unit.name)
        records[unit.name] = record(subject, models, work)
        store(path, about | {"molecules": list(records.values())}, indent=None)


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the weights along a run, the earliest first."""
    files = list((folder / "checkpoints").glob("step-*.safetensors"))
    if not files:
        raise ValueError(f"{folder}/checkpoints has no step-*.safetensors: choose another run")
    return sorted(files, key=lambda file: int(file.stem.removeprefix("step-")))


def training_hours(folder: Path, steps: list[int]) -> list[float]:
    """Return the hours that the run had taken at these steps."""
    with (folder / "training.csv").open() as file:
        seconds = {int(row["step"]): float(row["seconds"]) for row in csv.DictReader(file)}
    if unknown := set(steps) - set(seconds):
        raise ValueError(f"{folder}/training.csv has no row for the steps {sorted(unknown)}")
    return [round(seconds[step] / 3600, 3) for step in steps]


def molecules() -> list[tuple[Molecule, np.ndarray]]:
    """Choose test molecules of 4 to 6 heavy atoms by the sha256 of their index.

    Each stands at its MMFF94 geometry, in the basin of the DFT minimum beside it.
    """
    geometries = load_qm9("test")
    usable = TRAINED_ON.in_basin(geometries.start_rmsd, geometries.start_torsion)
    chosen = []
    for i in [i for i in by_hash(geometries, range(4, 7)) if usable[i]][:N_MOLECULES]:
        rows = geometries.atoms(i)
        info = {"name": f"qm9-{geometries.index[i]}", "smiles": geometries.smiles[i].decode()}
        atoms = ase.Atoms(geometries.numbers[rows], geometries.starts[rows], info=info)
        chosen.append((Molecule.from_atoms(atoms), geometries.positions[rows].astype(float)))
    return chosen


def units(subjects: list[Subject], models: list[Model]) -> Iterator[Unit]:
    """Yield all DFT calculations, the most important first."""
    first, others = subjects[:N_FIRST], subjects[N_FIRST:]
    yield from map(start_hessian, subjects[:N_HESSIANS])
    for subject in first:
        yield from (minimum(subject), start_forces(subject))
    for subject in first:
        yield from (chain_forces(subject, model) for model in models)
    for subject in first:
        yield from (relaxation(subject, model) for model in (None, *models))
    for subject in others:
        yield from (minimum(subject), start_forces(subject))
        yield from (chain_forces(subject, model) for model in models)


def minimum(subject: Subject) -> Unit:
    """Relax the published minimum tightly."""
    tight = SETTINGS.model_copy(update={"fmax": 0.003, "max_steps": 50})
    return _relaxation(subject.start.with_positions(subject.published), tight)


def relaxation(subject: Subject, model: Model | None) -> Unit:
    """Relax the end of a checkpoint's chain, or the MMFF94 geometry."""
    if model is None:
        return _relaxation(subject.start, SETTINGS)
    end = subject.start.with_positions(subject.chains[model.step][-1])
    key = work_key(
        "end of chain",
        subject.start,
        {"levels": LEVELS, **SETTINGS.model_dump()},
        model_sha256=model.sha256,
    )
    return _relaxation(end, SETTINGS, key)


def _relaxation(molecule: Molecule, settings: DFTSettings, key: str = "") -> Unit:
    key = key or work_key("dft", molecule, settings.model_dump())
    return Unit(
        molecule.name, key, lambda: dft_unit(molecule, settings, key=key).model_dump(mode="json")
    )


def start_forces(subject: Subject) -> Unit:
    """Evaluate the forces at the MMFF94 geometry, which is the first place of every chain."""
    start = subject.start
    key = work_key("forces", start, LEVEL)
    return Unit(start.name, key, lambda: forces_at(start, start.positions[None]))


def chain_forces(subject: Subject, model: Model) -> Unit:
    """Evaluate the forces at the other places of a checkpoint's chain."""
    key = work_key(
        "forces along chain",
        subject.start,
        {"levels": LEVELS, "places": PLACES[1:], **LEVEL},
        model_sha256=model.sha256,
    )
    geometries = subject.chains[model.step][list(PLACES[1:])]
    return Unit(subject.start.name, key, lambda: forces_at(subject.start, geometries))


def forces_at(molecule: Molecule, geometries: np.ndarray) -> Record:
    """Evaluate energies, eV, and forces, eV/Å, each from the density of the one before."""
    calculator, atoms = DensityFunctional(mean_field(molecule, **LEVEL)), molecule.to_atoms()
    energies, forces = [], []
    try:
        for atoms.positions in geometries:
            forces.append(calculator.get_forces(atoms).round(6).tolist())
            energies.append(calculator.get_potential_energy(atoms))
    except SCFError as error:
        return {"failure": str(error)}
    return {"energies": energies, "forces": forces}


def start_hessian(subject: Subject) -> Unit:
    """Evaluate the Hessian at the MMFF94 geometry, eV/Å²."""
    start = subject.start

    def calculate() -> Record:
        try:
            hessian = DensityFunctional(mean_field(start, **LEVEL)).hessian(start.to_atoms())
        except SCFError as error:
            return {"failure": str(error)}
        return {"hessian": hessian.round(5).tolist()}

    return Unit(start.name, work_key("hessian", start, LEVEL), calculate)


def record(subject: Subject, models: list[Model], work: Store) -> Record:
    """Put together what is known of a molecule; what has not been calculated is None.

    ``with_line``, ``with_force`` and ``force_with_line`` hold mean and spread of the cosines by
    checkpoint, place and span. The line ends at the tight DFT minimum, or at the published one
    until that is known. ``newton`` has the first step of each checkpoint, ``newton_of_line`` the
    whole line, which is what a perfect step would be.
    """
    lowest = relaxed(minimum(subject), work)
    at_start = found(start_forces(subject), work)
    target = subject.published if lowest is None else lowest.output.to_molecule().positions
    agreements = [_agreements(subject, model, target, at_start, work) for model in models]
    first_steps = [relaxation_chain(model, subject.start, LEVELS[:1])[1] for model in models]
    return {
        "name": subject.start.name,
        "smiles": subject.start.smiles,
        "minimum": "published" if lowest is None else "reference",
        **{
            quantity: [agreement[quantity] for agreement in agreements]
            for quantity in ("with_line", "with_force", "force_with_line")
        },
        "newton": [_newton(subject, end, at_start, work) for end in first_steps],
        "newton_of_line": _newton(subject, target, at_start, work),
        "relaxations": [_cost(relaxation(subject, model), lowest, work) for model in models],
        "mmff94": _cost(relaxation(subject, None), lowest, work),
    }


def _agreements(
    subject: Subject, model: Model, target: np.ndarray, at_start: Record | None, work: Store
) -> Record:
    along = found(chain_forces(subject, model), work)
    forces: list[Any] = [None] * len(PLACES)
    if at_start and along:
        forces = [np.array(f) for f in at_start["forces"] + along["forces"]]
    chain = subject.chains[model.step]
    steps = [
        [step_agreement(chain, place, span, target, force) for span in SPANS]
        for place, force in zip(PLACES, forces, strict=True)
    ]
    return {
        quantity: [[_plain(getattr(step, quantity)) for step in row] for row in steps]
        for quantity in ("with_line", "with_force", "force_with_line")
    }


def _plain(agreement: Agreement | None) -> list[float] | None:
    return agreement and [round(agreement.mean, 4), round(agreement.spread, 4)]


def _newton(
    subject: Subject, end: np.ndarray, at_start: Record | None, work: Store
) -> Record | None:
    """Compare the step from the start to an end with a Newton step."""
    curved = found(start_hessian(subject), work)
    if not (at_start and curved):
        return None
    here = subject.start.positions
    step = superpose(end, here)[0] - here
    agreement = newton_agreement(
        step, here, np.array(at_start["forces"][0]), np.array(curved["hessian"])
    )
    return {key: round(value, 4) for key, value in vars(agreement).items()}


def _cost(unit: Unit, lowest: MinimisationDocument | None, work: Store) -> Record | None:
    """Return what a relaxation cost, or why it failed.

    The excess energy, eV, is None where the end is not seen to be the reference minimum: it may be
    another one, or still too far up a shallow valley.
    """
    known = work.find(unit.key)
    if known is None or lowest is None:
        return None
    document = read_document(known)
    if not (isinstance(document, MinimisationDocument) and document.converged):
        return {"failure": document.reason}
    assert lowest.energy is not None and document.energy is not None and document.trajectory
    ends = (lowest.output.to_molecule(), document.output.to_molecule())
    same = same_minimum(*ends, document.energy - lowest.energy)
    return {
        "gradient_calls": document.gradient_calls,
        "fmax": document.trajectory.fmaxes[0],
        "excess": round(document.trajectory.energies[0] - lowest.energy, 6) if same else None,
    }


def found(unit: Unit, work: Store) -> Record | None:
    """Return what a unit has found, or None if it failed or has not been done."""
    known = work.find(unit.key)
    return None if known is None or "failure" in known else known


def relaxed(unit: Unit, work: Store) -> MinimisationDocument | None:
    """Return the relaxation of a unit, or None if there is none that has converged."""
    known = work.find(unit.key)
    document = None if known is None else read_document(known)
    return document if isinstance(document, MinimisationDocument) and document.converged else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
