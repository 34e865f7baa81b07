"""How near a model comes to the minima of the molecules that chemists bring, beside its peers.

Run: OMP_NUM_THREADS=1 python analysis/reach.py MODEL FOLDER --data DATA --train SETS/train.npz
         [--labels LABELS...] [--split test] [-n 1000] [--peers 60] [--sources NAME...]

DATA has the published sets (`published`), --train is the packed set that the model
has learned, whose scaffolds are not new, and LABELS are releases of minima at the levels of AIMNet2
and GFN2-xTB, or parts of these. What reach is judged by are molecules with ten or more heavy atoms
or an element that QM9 lacks; QM9 itself is judged on the molecules of `diffrelax evaluate`.

A start is the force-field geometry that came with the minimum; else an embedding, relaxed with
MMFF94 (or UFF where that has no parameters), if it is in the basin; else the minimum relaxed with
MMFF94. Minima without a start are counted. The model aims at the level of
the minima; at those of the other LVPP sets too, for minima of one of them. Peers relax the first
molecules of each source to 0.02 eV/Å, and relax-qm9-2 all of QM9's. Excess energies at AIMNet2's
level are above the minimum to which AIMNet2 relaxes an end.

Twenty minima by one method are one unit, kept in FOLDER/units (pack_units.py), so the same command
goes on where it was stopped, and calculates nothing again. FOLDER/progress.log tells how far it is;
FOLDER/report.md and reach.json are written after each source.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from time import strftime
from typing import Any

import numpy as np
import reach_cases as cases
from gate import seen
from pack_units import unpacked
from reach_cases import LEVELS, WITH_ENERGIES, Case, find_cases
from reach_rows import (
    START,
    End,
    bounds_table,
    groups_of,
    rarity_table,
    row_of,
    rows_table,
)
from records import how_made, store

from diffrelax.atomic import write_text
from diffrelax.benchmark.sample import FMAX
from diffrelax.clock import NO_TIME, Time
from diffrelax.files.values import plain_values
from diffrelax.geometry import bond_matrix, geometry_errors, torsion_changes
from diffrelax.levels.batch import relax_many
from diffrelax.levels.minimisation import why_not
from diffrelax.levels.side_by_side import relax_side_by_side
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.store import work_key
from diffrelax.training.geometries import GeometrySet
from diffrelax.units import KCAL_PER_MOL

CHUNK = 20
OLD = "relax-qm9-2"
SO3LR_ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17)
PEERS = ("gfn-ff", "gfn2-xtb", "aimnet2", OLD, "so3lr")
TIGHT = 0.01  # eV/Å, of the minima that excess energies are above

Relaxed = tuple[np.ndarray | None, str, str, float, Time]  # positions, verdict, reason, bound, time


def main() -> None:
    """Judge what has not been judged, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--labels", type=Path, nargs="+", default=[])
    parser.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument("-n", type=int, default=1000, help="minima of a source, at most")
    parser.add_argument("--peers", type=int, default=60, help="minima that peers relax")
    parser.add_argument("--sources", nargs="+", choices=LEVELS, default=list(LEVELS))
    options = parser.parse_args()
    labels = cases.load_labels(*options.labels)
    judge = Judge(load_model(options.model), options.folder, known_scaffolds(options))
    report = []
    for source in options.sources:
        judge.tell(f"{source}: starts")
        found, without = find_cases(
            source, options.split, options.n, options.data, labels, judge.work
        )
        if found:
            judged = judge.source(source, found, options.peers)
            report.append(judged | {"without_start": without})
            write(options, judge.model, report)


def known_scaffolds(options: argparse.Namespace) -> set[str]:
    """Return the scaffolds of the training set, found once."""
    digest = sha256(options.train.read_bytes()).hexdigest()[:16]
    path = options.folder / f"scaffolds-{digest}.json"
    if not path.exists():
        smiles = {text.decode() for text in GeometrySet.load(options.train).smiles.tolist()}
        path.parent.mkdir(parents=True, exist_ok=True)
        store(path, sorted(cases.scaffolds_of(smiles)), indent=0)
    return set(json.loads(path.read_text()))


class Judge:
    """Judges methods on cases, each unit of work once."""

    def __init__(self, model: Model, folder: Path, known: set[str]) -> None:
        self.model = model
        self.work = unpacked(folder)
        self._known = known
        self._log = folder / "progress.log"
        self._old = load_model(OLD)

    def tell(self, line: str) -> None:
        """Say how far the work is."""
        with self._log.open("a") as log:
            log.write(f"{strftime('%F %T')} {line}\n")

    def source(self, source: str, found: Sequence[Case], n_peers: int) -> dict[str, Any]:
        """Judge the model on all cases of a source, and the peers on the first molecules."""
        level = LEVELS[source]
        aims = [level]
        if source.startswith("lvpp"):
            aims += [LEVELS[s] for s in LEVELS if s.startswith("lvpp") and LEVELS[s] != level]
        known = [
            {
                "new_scaffold": cases.is_new(case.constitution, self._known),
                "seen": seen(case.start, self.model),
            }
            for case in found
        ]
        begun = self.ends(source, START, found)
        starts = [told | start for told, start in zip(known, begun, strict=True)]
        ends = {START: starts}
        for aim in aims:
            if aim in self.model.config.levels:
                name = self.model.name if aim == level else f"{self.model.name}, at {aim}"
                ends[name] = self.ends(source, name, found, aim)
        if source == "qm9":
            ends[OLD] = self.ends(source, OLD, found)
        rows = [
            row_of([of_method[i] for i in places], [starts[i] for i in places])
            | {"group": group, "method": method}
            for group, places in groups_of(starts).items()
            for method, of_method in ends.items()
        ]
        peers = {method: of_method[:n_peers] for method, of_method in ends.items()}
        for peer in PEERS if n_peers else ():
            try:
                peers[peer] = self.ends(source, peer, found[:n_peers])
            except (ImportError, ValueError) as error:  # not installed
                self.tell(f"{source}, {peer}: left out, {error}")
        rows += [
            row_of(of_method, starts[:n_peers], peers.get(self.model.name))
            | {"group": f"first {n_peers}, with peers", "method": method}
            for method, of_method in peers.items()
            if n_peers
        ]
        own = ends.get(self.model.name, [])
        tables = {"bounds": bounds_table(own), "rarity": rarity_table(own, starts) if own else ""}
        return {"source": source, "level": level, "rows": rows, **tables}

    def ends(
        self, source: str, name: str, found: Sequence[Case], aim: str | None = None
    ) -> list[End]:
        """Return the ends of a method, twenty by twenty."""
        ends: list[End] = []
        for i in range(0, len(found), CHUNK):
            chunk = found[i : i + CHUNK]
            key = work_key(
                f"reach {name}",
                fingerprint(chunk),
                {"aim": aim, "energies": source in WITH_ENERGIES},
                model_sha256=self.model.sha256 if aim else "",
            )
            unit = self.work.find_or_do(
                key,
                lambda chunk=chunk: self.unit(source, name, chunk, aim),  # type: ignore[misc]
            )
            ends += unit["ends"]
            self.tell(f"{source}, {name}: {len(ends)} of {len(found)}")
        return ends

    def unit(self, source: str, name: str, chunk: Sequence[Case], aim: str | None) -> End:
        """Relax a chunk by one method, and judge the ends."""
        starts = [case.start for case in chunk]
        if name == START:
            relaxed = [(start.positions, "relaxed", "", math.nan, NO_TIME) for start in starts]
        elif aim or name == OLD:
            relaxed = by_model(starts, self.model if aim else self._old, aim)
        else:
            relaxed = by_so3lr(starts) if name == "so3lr" else by_level(starts, name)
        ends = [judged(case, one) for case, one in zip(chunk, relaxed, strict=True)]
        if source in WITH_ENERGIES:
            add_energies(ends, starts, relaxed)
        return {"name": f"{source} {name}", "ends": ends}


def fingerprint(chunk: Sequence[Case]) -> str:
    """Name a chunk by its starts and minima."""
    made = sha256()
    for case in chunk:
        made.update(work_key(case.kind, case.start, {}).encode())
        made.update((case.reference.round(5) + 0.0).tobytes())
    return made.hexdigest()


def by_model(starts: Sequence[Molecule], model: Model, aim: str | None) -> list[Relaxed]:
    """Relax with a model; a refused molecule has no end."""
    return [
        (
            None if result.verdict == "refused" else result.molecule.positions,
            result.verdict,
            result.reason,
            result.error_bound,
            result.time,
        )
        for result in relax_molecules(starts, model, level=aim)
    ]


def by_level(starts: Sequence[Molecule], level: str) -> list[Relaxed]:
    """Relax at a cheap level; where it fails, the start is the end."""
    return [
        (end.positions, "relaxed", "", math.nan, end.time)
        if end.converged
        else (start.positions, "failed", end.reason, math.nan, end.time)
        for start, end in zip(starts, relax_many(starts, level, fmax=FMAX), strict=True)
    ]


def by_so3lr(starts: Sequence[Molecule]) -> list[Relaxed]:
    """Relax with SO3LR, of the package so3krates-torch, which is optional."""
    from so3krates_torch.calculator.so3 import SO3LRCalculator

    calculator = SO3LRCalculator()

    def evaluate(
        molecules: Sequence[Molecule], geometries: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        found = []
        for molecule, positions in zip(molecules, geometries, strict=True):
            atoms = molecule.with_positions(positions).to_atoms()
            atoms.info["charge"] = molecule.charge
            atoms.calc = calculator
            found.append((atoms.get_potential_energy(), atoms.get_forces()))
        energies, forces = zip(*found, strict=True)
        return np.array(energies), list(forces)

    relaxed: list[Relaxed] = []
    for start in starts:
        begun = Time.now()
        if not np.isin(start.numbers, SO3LR_ELEMENTS).all():
            relaxed.append((None, "refused", "elements", math.nan, NO_TIME))
            continue
        (end,) = relax_side_by_side([start], evaluate, fmax=FMAX)
        reason = why_not(start, end.positions, end.fmax, FMAX, f"{end.n_calls} calls")
        positions = start.positions if reason else end.positions
        verdict = "failed" if reason else "relaxed"
        relaxed.append((positions, verdict, reason, math.nan, Time.now() - begun))
    return relaxed


def judged(case: Case, relaxed: Relaxed) -> End:
    """Compare an end with the minimum."""
    positions, verdict, reason, bound, time = relaxed
    end: End = {
        "name": case.start.name,
        "molecule": case.constitution,
        "charge": case.start.charge,
        "heavy": case.start.n_heavy,
        "kind": case.kind,
        "start_in_basin": case.in_basin,
        "verdict": verdict,
        "reason": reason,
        "bound": None if math.isnan(bound) else bound,
        "seconds": time.processor,
        "excess": None,
        "calls": None,
    }
    if positions is None:
        return end | dict.fromkeys(("bonds", "angles", "rmsd", "turned"))
    errors = geometry_errors(case.start.numbers, positions, case.reference)
    bonded = bond_matrix(case.start.numbers, case.reference)
    turned = float(torsion_changes(bonded, positions, case.reference).max(initial=0.0))
    angles = None if math.isnan(errors.angles) else errors.angles
    return end | {"bonds": errors.bonds, "angles": angles, "rmsd": errors.rmsd, "turned": turned}


def add_energies(
    ends: Sequence[End], starts: Sequence[Molecule], relaxed: Sequence[Relaxed]
) -> None:
    """Add, in kcal/mol, how far ends are above the minima that AIMNet2 relaxes them to."""
    from diffrelax.levels.aimnet2 import evaluate

    places = [i for i, one in enumerate(relaxed) if one[0] is not None]
    molecules = [starts[i].with_positions(relaxed[i][0]) for i in places]
    minima = relax_many(molecules, "aimnet2", fmax=TIGHT)
    for i, molecule, minimum in zip(places, molecules, minima, strict=True):
        if minimum.converged:
            energy = float(evaluate([molecule], [molecule.positions])[0][0])
            ends[i]["excess"] = (energy - minimum.energy) / KCAL_PER_MOL
            ends[i]["calls"] = minimum.n_calls


def write(options: argparse.Namespace, model: Model, report: Sequence[dict[str, Any]]) -> None:
    """Write the report of what is done."""
    about = how_made(model, step=model.step, split=options.split)
    store(options.folder / "reach.json", plain_values(about | {"sources": report}))
    pages = [
        f"{model.name}, {model.step} steps, {options.split} molecules. Medians over molecules, "
        "95% intervals in brackets (of order statistics; of ratios of medians by bootstrap, from "
        "twenty molecules on); ms of the processor for a minimum that was not refused. Made by "
        f"`{about['command']}` on {about['hardware']}."
    ]
    for one in report:
        pages += [f"## {one['source']}: {one['level']}", rows_table(one["rows"])]
        pages += [one["bounds"], one["rarity"]]
        if without := one["without_start"]:
            pages.append(f"No start was found for {len(without)} minima: {', '.join(without)}.")
    write_text(options.folder / "report.md", "\n\n".join(filter(None, pages)) + "\n")


if __name__ == "__main__":
    main()
