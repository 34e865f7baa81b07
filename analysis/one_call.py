"""Minima predicted from one gradient call: the bounds of their errors, and what they are worth.

Run: OMP_NUM_THREADS=1 python analysis/one_call.py analysis/results/dft_speedup
Needs the package AcAuto3D and the program xtb. The same command goes on where it was stopped, with
`one_call.json` and what is kept in the folder `units`.

1. `surrogate`: AIMNet2 stands in for DFT on validation molecules, as in optimizers.py, where the
   start of the model is the minimum displaced by what its end differs from the published one. Ten
   minutes.
2. `validation`: two DFT calls from the model's geometries of validation molecules. An hour.
3. `test` and `larger`: the 51 molecules of the report `small` and the twenty larger ones of `qm9`,
   from the relaxations and reference minima of these reports. Where the forces of a first call
   were not kept, they are those that explain the first step, if it is known: geomeTRIC's is −H⁻¹g
   in its internal coordinates. Otherwise they are calculated again, two hours in all.

Hessians are GFN2-xTB's with what its forces add to them, as those relaxations have them.

The first step is chosen on 1, and the bounds (`diffrelax.dft.prediction`) on 1 and 2.

A minimum is the end of the tightest relaxation that is there, extrapolated by one more step.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from dft_speedup import B3LYP, MODEL, FinishedWork, about, about_model, chosen
from one_call_steps import Minimum, first_step, forces_of_step, nearest, predicted, scaled
from one_call_tables import STARTS, page
from optimizers import SAME_BASIN, displaced, relaxed
from pack_units import unpacked
from records import store
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.benchmark.speedup.arms import Subject
from diffrelax.benchmark.speedup.run import reference_settings
from diffrelax.benchmark.speedup.units import Units
from diffrelax.clock import NO_TIME
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.recorder import Call
from diffrelax.levels.aimnet2 import AIMNet2
from diffrelax.levels.tight_binding import gfn2_hessian
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import heavy_atom_rmsd
from diffrelax.molecule.identity import identity_change
from diffrelax.relaxation import relax_molecules
from diffrelax.results.documents import FailureDocument, MinimisationDocument

Record: TypeAlias = dict[str, Any]

STEPS = {  # optimizer, factor of the Hessian
    "tric": ("tric", 1.0),
    "tric, Hessian × 1.1": ("tric", 1.1),
    "bfgs (Cartesian)": ("bfgs", 1.0),
}
N_SURROGATE = 40
FIRST_CALL, TWO_CALLS = (B3LYP.model_copy(update={"max_steps": n}) for n in (0, 1))


def main(folder: Path) -> None:
    """Do what is left of each part, and write after each molecule."""
    path = folder / "one_call.json"
    found: dict[str, Any] = {"surrogate": {}, "validation": {}, "test": {}, "larger": {}}
    if path.exists():
        known = json.loads(path.read_text())
        found = {part: known.get(part, {}) for part in found}
    units = Units(unpacked(folder), MODEL)
    finished = Units(FinishedWork(unpacked(folder).path), MODEL)
    model = load_model(MODEL)
    surrogates = list(chosen(load_qm9("validation"), range(5, 10), N_SURROGATE))
    geometries = load_qm9("test")
    test = list(chosen(geometries, range(5, 8), 51))
    larger = list(chosen(geometries, range(8, 10), 20))
    validation = validation_subjects()
    find, do = (partial(look, units=source, finished=finished) for source in (finished, units))
    passes = (
        ("test", test, find),
        ("larger", larger, find),
        ("surrogate", surrogates, partial(stand_in, model=model)),
        ("validation", validation, partial(do, starts=STARTS[:1])),
        ("test", test, do),
        ("larger", larger, do),
    )
    for part, subjects, measure_all in passes:
        for subject in tqdm(subjects, desc=part, unit="mol"):
            records = found[part].get(subject.name)
            lacks = measure_all is not find and any("lacks" in record for record in records or ())
            if subject.base and (records is None or lacks):
                found[part][subject.name] = measure_all(subject)
                write(folder, found, model)


def validation_subjects() -> list[Subject]:
    """Choose molecules of 5 to 8 heavy atoms, the smallest and those of the speed-up first."""
    geometries = load_qm9("validation")
    sizes = (
        (range(5, 7), 8),
        (range(5, 6), 12),
        (range(5, 7), 20),
        (range(7, 8), 8),
        (range(8, 9), 4),
    )
    subjects = [subject for heavy, n in sizes for subject in chosen(geometries, heavy, n)]
    return list({subject.name: subject for subject in subjects}.values())


def stand_in(subject: Subject, model: Model) -> list[Record]:
    """Measure a molecule with AIMNet2 in place of DFT; nothing where it has left its basin."""
    published = subject.known["qm9"]
    try:
        minimum, mmff94 = (relaxed(published, level) for level in ("aimnet2", "mmff94"))
        gfn2 = relaxed(minimum, "gfn2-xtb")
        (end,) = relax_molecules([mmff94], model)
    except ValueError:
        return []
    ends = [minimum, mmff94, gfn2, end.molecule]
    if end.verdict != "relaxed" or any(
        identity_change(published, m.positions) or heavy_atom_rmsd(published, m) > SAME_BASIN
        for m in ends
    ):
        return []
    starts = displaced(minimum, published, end.molecule), gfn2, mmff94
    lowest = Minimum(minimum, call_aimnet2(minimum, minimum.positions).energy)
    return [
        {"start": name} | step | {"steps": others}
        for name, start in zip(STARTS, starts, strict=True)
        for others in [try_steps(start, lowest)]
        for step in [others["tric"]]
    ]


def call_aimnet2(molecule: Molecule, positions: np.ndarray) -> Call:
    """Ask AIMNet2 for energy and forces."""
    moved = molecule.with_positions(positions)
    atoms = moved.to_atoms()
    atoms.calc = AIMNet2(moved)
    return Call(moved, atoms.get_potential_energy(), atoms.get_forces(), NO_TIME)


def try_steps(start: Molecule, minimum: Minimum) -> dict[str, Record]:
    """Take each first step from a start, and tell what AIMNet2 says after it."""
    call, hessian = call_aimnet2(start, start.positions), gfn2_hessian(start)
    found = {}
    for name, (optimizer, scale) in STEPS.items():
        second = call_aimnet2(start, first_step(call, scale * hessian, optimizer))
        left = {"fmax_left": second.fmax, "energy_left": second.energy - minimum.energy}
        found[name] = predicted(call, second.molecule, minimum) | left
    return found


def look(
    subject: Subject, units: Units, finished: Units, starts: Sequence[str] = STARTS
) -> list[Record]:
    """Tell what one DFT call from each start predicts, and how far off it is."""
    relaxed_from: dict[str, MinimisationDocument] = {}
    lacking: list[Record] = []
    for name in starts:
        try:
            start = units.start(subject, name).molecule
            document = start and relax(start, units, finished)
        except FileNotFoundError:
            lacking.append({"start": name, "lacks": "calls"})
            continue
        if isinstance(document, MinimisationDocument) and document.gradient_calls:
            relaxed_from[name] = document
    minima = [m for document in relaxed_from.values() if (m := settle(document, finished))]
    return lacking + [
        {"start": name} | measure(document, minima, units)
        for name, document in relaxed_from.items()
    ]


def relax(start: Molecule, units: Units, finished: Units) -> MinimisationDocument | FailureDocument:
    """Return the whole relaxation where it is there or leads to the minimum, else two calls."""
    try:
        return finished.relax(start, B3LYP)
    except FileNotFoundError:
        return units.relax(start, B3LYP if start.start == "diffusion" else TWO_CALLS)


def settle(document: MinimisationDocument, finished: Units) -> Minimum | None:
    """Return the minimum to which a converged relaxation leads."""
    if not document.converged:
        return None
    with suppress(FileNotFoundError):
        tight = finished.relax(document.output.to_molecule(), reference_settings(B3LYP))
        if isinstance(tight, MinimisationDocument) and tight.converged:
            return Minimum(tight.output.to_molecule(), tight.energy)
    end = document.output.to_molecule()
    last = Call(end, document.energy, np.array(document.forces), NO_TIME)
    positions = first_step(last, gfn2_hessian(end))
    fall = 0.5 * float((last.forces * (positions - end.positions)).sum())
    return Minimum(end.with_positions(positions), last.energy - fall)


def measure(document: MinimisationDocument, minima: Sequence[Minimum], units: Units) -> Record:
    """Compare what is known after the first call with what the second and the minimum tell."""
    way = document.trajectory
    record = {
        "calls": document.gradient_calls,
        "converged": document.converged,
        "fmax": way.fmaxes[0],
    }
    if len(way.energies) == 1:
        return record
    record["fmax_left"] = way.fmaxes[1]
    if way.forces:
        record |= scaled(*map(np.array, way.forces[:2]))
    after, minimum = None, None
    if call := first_call(document, units):
        after = call.molecule.with_positions(first_step(call, gfn2_hessian(call.molecule)))
    if minimum := nearest(after or document.output.to_molecule(), minima):
        record |= {
            "above": way.energies[0] - minimum.energy,
            "energy_left": way.energies[1] - minimum.energy,
        }
    return record | (predicted(call, after, minimum) if call else {"lacks": "first forces"})


def first_call(document: MinimisationDocument, units: Units) -> Call | None:
    """Return the first call; None if its forces are neither kept nor told by the first step."""
    start, way = document.input.to_molecule(), document.trajectory
    if way.forces:
        forces = np.array(way.forces[0])
    elif len(way.energies) == 2:
        forces = forces_of_step(start, document.output.to_molecule())
    else:
        with suppress(FileNotFoundError):
            return first_call(units.relax(start, FIRST_CALL), units)
        return None
    sizes = np.linalg.norm(forces, axis=1)
    found = [sizes.max(), np.sqrt((sizes**2).mean())]
    agrees = np.isclose(found, [way.fmaxes[0], way.rms_forces[0]], rtol=0.01)
    return Call(start, way.energies[0], forces, NO_TIME) if agrees.all() else None


def write(folder: Path, found: dict[str, dict[str, list[Record]]], model: Model) -> None:
    """Write records and tables."""
    made = about(B3LYP, "validation and test") | about_model(model)
    store(folder / "one_call.json", made | found)
    write_text(
        folder / "one_call.md",
        page({part: [r for of in found[part].values() for r in of] for part in found}) + "\n",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
