"""The second experiment of arXiv 2311.01491: drug-like molecules, GFN2-xTB in the place of DFT.

Run: OMP_NUM_THREADS=1 python analysis/geom.py MODEL FOLDER --list SMILES.smi.gz

MODEL is the folder of a training run, with model.safetensors and checkpoints. GEOM itself cannot be
had here: the molecules are test ones of the list (the remainder of their constitution is 2 or 3),
neutral, in one piece, with 15 to 40 heavy atoms of H, C, N, O, F, S, Cl, Br, I, P, B and Si, in the
order of the sha256 of their constitution. From the MMFF94 geometry and from what the model makes of
it, after each checkpoint, ASE's BFGS relaxes them at GFN2-xTB to 0.03 eV/Å from its own first
Hessian, as in the paper, and its energy-and-gradient calls are counted. Ends are in one minimum by
the rule for conformers (`diffrelax.molecule.comparison.same_minimum`).

Each relaxation is a unit, kept in FOLDER/units (pack_units.py); the same command goes on, in this
order: MMFF94, the finished model, then checkpoints from the last to the first. The table is in
FOLDER/report.md, FOLDER/progress.log tells how far it is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import strftime
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculatorError
from ase.optimize import BFGS
from candidates import candidates
from pack_units import unpacked
from rdkit import rdBase
from records import how_made, store

from diffrelax.atomic import write_text
from diffrelax.benchmark.estimates import estimate, estimate_median, ratio_of_medians
from diffrelax.clock import Time
from diffrelax.files.values import plain_values
from diffrelax.levels import get_calculator
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.relaxation import relax_molecules
from diffrelax.results.documents import MoleculeDocument
from diffrelax.results.tables import markdown_table
from diffrelax.store import Store, work_key
from diffrelax.training.loop import CHECKPOINTS
from diffrelax.units import KCAL_PER_MOL

TARGET = "gfn2-xtb"
HEAVY = range(15, 41)
FMAX = 0.03  # eV/Å
MAX_STEPS = 1000
LOWER = 0.1 * KCAL_PER_MOL  # eV
MMFF94 = "mmff94"

Unit = dict[str, Any]


def main() -> None:
    """Relax what has not been relaxed, stage by stage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("-n", type=int, default=501)
    options = parser.parse_args()
    work = unpacked(options.folder)
    final = load_model(options.model)
    molecules = list(embedded(options, work))
    models = [(MMFF94, None), (f"{final.step} steps", final)]
    models += checkpoints(options.model, final)
    found: dict[str, list[Unit]] = {}
    for start, model in models:
        units = found.setdefault(start, [])
        for molecule in molecules:
            moved = moved_by(model, molecule, work) if model else {"molecule": molecule}
            units.append(unit_of(moved, work))
            with (options.folder / "progress.log").open("a") as log:
                log.write(f"{strftime('%F %T')} {start}: {len(units)} of {len(molecules)}\n")
        write(options, final, molecules, found)


def embedded(options: argparse.Namespace, work: Store) -> Iterator[Molecule]:
    """Yield the molecules at their MMFF94 geometries, which are kept."""
    listed = sha256(options.list.read_bytes()).hexdigest()
    key = work_key("geom molecules", options.split, {"n": options.n, "list": listed})

    def make() -> Unit:
        found: list[Molecule] = []
        for one in candidates(options.list, options.split, "geom"):
            if len(found) == options.n:
                break
            if one.charge or one.heavy not in HEAVY:
                continue
            try:
                with rdBase.BlockLogs():
                    molecule = Molecule.from_smiles(one.smiles)
            except ValueError:
                continue
            if molecule.start == MMFF94:
                found.append(molecule)
        documents = [MoleculeDocument.from_molecule(molecule) for molecule in found]
        return {"molecules": [document.model_dump(mode="json") for document in documents]}

    for document in work.find_or_do(key, make)["molecules"]:
        yield MoleculeDocument.model_validate(document).to_molecule()


def checkpoints(folder: Path, final: Model) -> list[tuple[str, Model]]:
    """Return a model with its earlier weights, by how many steps they are of, the last first."""
    found = [load_model(path) for path in (folder / CHECKPOINTS).glob("*.safetensors")]
    found.sort(key=lambda one: -one.step)
    config = final.config.model_copy(update={"calibrations": {}})
    return [
        (f"{one.step} steps", replace(one, config=config, environments=final.environments))
        for one in found
        if one.step < final.step
    ]


def moved_by(model: Model, molecule: Molecule, work: Store) -> Unit:
    """Return what a model makes of a molecule, once; its start where it is refused."""
    level = model.nearest_level(TARGET).level
    key = work_key("geom model", molecule, {"level": level}, model_sha256=model.sha256)

    def move() -> Unit:
        (result,) = relax_molecules([molecule], model, level=level)
        positions = result.molecule.positions.tolist()
        return {"positions": positions, "verdict": result.verdict, "reason": result.reason}

    moved = work.find_or_do(key, move)
    end = molecule.with_positions(np.array(moved["positions"]), start="diffusion")
    return {"molecule": end, "verdict": moved["verdict"]}


def unit_of(moved: Unit, work: Store) -> Unit:
    """Relax a geometry at GFN2-xTB, once."""
    start: Molecule = moved["molecule"]
    key = work_key("geom relaxation", start, {"fmax": FMAX, "optimizer": "ASE's BFGS"})
    unit = work.find_or_do(key, lambda: plain_values(relaxed(start)))
    end = start.with_positions(np.array(unit["positions"]))
    return unit | {"verdict": moved.get("verdict", ""), "end": end}


def relaxed(start: Molecule) -> Unit:
    """Relax as the paper does, and count the calls."""
    begun = Time.now()
    atoms = start.to_atoms()
    atoms.calc = get_calculator(TARGET, start)
    unit: Unit = {"start_energy": None, "energy": None, "reason": ""}
    optimizer = BFGS(atoms, logfile=None)
    try:
        unit["start_energy"] = atoms.get_potential_energy()
        if not optimizer.run(fmax=FMAX, steps=MAX_STEPS):
            unit["reason"] = f"not converged after {MAX_STEPS} steps"
        unit["energy"] = atoms.get_potential_energy()
    except (RuntimeError, CalculatorError) as error:
        unit["reason"] = f"the level failed: {error}"
    return unit | {
        "calls": optimizer.nsteps + 1,
        "positions": atoms.positions,
        "seconds": (Time.now() - begun).processor,
    }


def row_of(units: Sequence[Unit], mmff94: Sequence[Unit]) -> dict[str, Any]:
    """Compare relaxations with those from MMFF94, of molecules that converge in both."""
    pairs = [
        (own, base)
        for own, base in zip(units, mmff94, strict=False)
        if not own["reason"] and not base["reason"]
    ]
    same = [
        (own, base)
        for own, base in pairs
        if same_minimum(own["end"], base["end"], own["energy"] - base["energy"])
    ]

    def of(some: Sequence[tuple[Unit, Unit]], quantity: str, side: int) -> np.ndarray:
        return np.array([float(pair[side][quantity]) for pair in some])

    excess = (of(pairs, "start_energy", 0) - of(pairs, "energy", 0)) / KCAL_PER_MOL
    return {
        "n": len(units),
        "converged": len(pairs),
        "same_minimum": len(same),
        "not_relaxed": sum(unit["verdict"] not in ("", "relaxed") for unit in units),
        "excess": estimate_median(excess.tolist()),
        "calls": estimate_median(of(pairs, "calls", 0).tolist()),
        "calls_same": estimate_median(of(same, "calls", 0).tolist()),
        "ratio_same": estimate(ratio_of_medians, of(same, "calls", 1), of(same, "calls", 0)),
        "lower": float(np.mean(of(pairs, "energy", 0) < of(pairs, "energy", 1) - LOWER))
        if pairs
        else math.nan,
    }


def write(
    options: argparse.Namespace,
    model: Model,
    molecules: Sequence[Molecule],
    found: dict[str, list[Unit]],
) -> None:
    """Write what is known by now."""
    rows = [{"start": start, **row_of(units, found[MMFF94])} for start, units in found.items()]
    about = how_made(
        model,
        model_level=model.nearest_level(TARGET).level,
        split=options.split,
        mean_atoms=float(np.mean([molecule.n_atoms for molecule in molecules])),
    )
    store(options.folder / "geom.json", plain_values(about | {"rows": rows}))
    header = ("start", "converged", "start above its end, kcal/mol", "calls",
              "same minimum as MMFF94's", "calls, these", "times fewer, these",
              "lower minimum", "left as they were")  # fmt: skip
    lines = [
        (row["start"], f"{row['converged']} of {row['n']}",
         f"{row['excess']:.2f}", f"{row['calls']:.0f}", str(row["same_minimum"]),
         f"{row['calls_same']:.0f}", f"{row['ratio_same']:.2f}", f"{row['lower']:.0%}",
         str(row["not_relaxed"]))
        for row in rows
    ]  # fmt: skip
    told = (
        f"{len(molecules)} {options.split} molecules, {about['mean_atoms']:.1f} atoms in the mean; "
        f"{model.name} relaxes to minima of {about['model_level']}. Medians, 95% intervals of "
        "order statistics in brackets, of ratios of medians by bootstrap. "
        f"Made by `{about['command']}` on {about['hardware']}."
    )
    write_text(options.folder / "report.md", f"{told}\n\n{markdown_table(header, lines)}\n")


if __name__ == "__main__":
    main()
