"""How many gradients the optimizer takes on Baker's and on Birkholz and Schlegel's molecules.

Run: OMP_NUM_THREADS=1 nice -n 19 python analysis/yardsticks.py FOLDER SET OUTPUT.json [ARM...]
Goes on where it was stopped; OUTPUT.md is the table.

FOLDER has both sets with their published starts and numbers of steps, as in the project pyberny;
SET is ``baker_shajan_2023`` (30 molecules, HF/6-31G**) or ``birkholz_schlegel`` (HF/3-21G, without
the three that have metals). Gradients are counted to the published criterion: no component above
0.00045 Hartree/Bohr. An arm is a start, ``published`` or ``model``, and the recipe that goes on
from there; the model is the default one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Bohr
from records import how_made, store
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.dft import DFTSettings
from diffrelax.dft.optimization import relax_with
from diffrelax.files.reading import read_molecules
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table
from diffrelax.units import HARTREE, KCAL_PER_MOL

BASIS = {"baker_shajan_2023": "6-31G**", "birkholz_schlegel": "3-21G"}
METALS = ("easc", "mg_porphin", "zn_edta")
LARGEST = 0.00045 * HARTREE / Bohr  # eV/Å, of a component
ARMS = ("published tric+hessian", "published tric+aimnet2-hessian", "published tric")


def main(folder: Path, kind: str, output: Path, arms: Sequence[str]) -> None:
    """Relax what the file does not hold yet, and print the table."""
    published = json.loads((folder / kind / "reference.json").read_text())
    found: dict[str, Any] = (
        json.loads(output.read_text(encoding="utf-8"))["molecules"] if output.exists() else {}
    )
    about = how_made(shared=True) | {"level": f"HF/{BASIS[kind]}", "largest_component": LARGEST}
    names = sorted(set(published) - set(METALS), key=lambda name: published[name]["atoms"])
    for name in tqdm(names, unit="mol", disable=None):
        record = found.setdefault(name, {"published": published[name], "arms": {}})
        (start,) = read_molecules(
            str(folder / kind / f"{name}.xyz"), charge=published[name]["charge"]
        )
        assert isinstance(start, Molecule)
        for arm in arms:
            if arm not in record["arms"]:
                record["arms"][arm] = relaxed(start, BASIS[kind], *arm.split())
                store(output, about | {"molecules": found})
        write_text(output.with_suffix(".md"), page(about, found, arms))


def relaxed(start: Molecule, basis: str, origin: str, recipe: str) -> dict[str, Any]:
    """Relax a molecule, and count the gradients to the criterion."""
    if origin == "model":
        model = load_model()
        known = model.nearest_level(f"HF/{basis}").level
        (relaxation,) = relax_molecules([start], model, level=known)
        start = relaxation.molecule or start
    level = DFTSettings(xc="hf", basis=basis, fmax=LARGEST, max_steps=150)
    result = relax_with(start, SpeedupArm(origin, recipe).settings(level))
    met = np.flatnonzero(np.abs(result.all_forces).max(axis=(1, 2)) < LARGEST)
    return {
        "gradients": int(met[0]) + 1 if len(met) else None,
        "reason": result.reason,
        "notes": list(result.notes),
        "first_fmax": result.fmaxes[0] if result.fmaxes else None,
        "energy_hartree": result.energy / HARTREE,
        "processor_seconds": round(result.times["total"].processor, 1),
    }


def page(about: dict[str, Any], found: dict[str, Any], arms: Sequence[str]) -> str:
    """Show gradients, and energies above the lowest end of each molecule."""
    done = {name: record for name, record in found.items() if record["arms"].keys() >= set(arms)}
    rows = []
    for name, record in done.items():
        ends = [record["arms"][arm] for arm in arms]
        lowest = min(end["energy_hartree"] for end in ends)
        cells = [
            f"{end['gradients']} ({HARTREE / KCAL_PER_MOL * (end['energy_hartree'] - lowest):.2f})"
            for end in ends
        ]
        rows.append((name, str(record["published"]["paper_steps"]), *cells))
    sums = [sum(r["arms"][arm]["gradients"] or 0 for r in done.values()) for arm in arms]
    steps = sum(record["published"]["paper_steps"] for record in done.values())
    header = ("molecule", "published steps", *arms)
    return (
        f"Gradients to the published criterion at {about['level']}, the first included, and in "
        "brackets the energy of the end above the lowest one, kcal/mol. Made by "
        f"`{about['command']}`.\n\n"
        + markdown_table(header, [*rows, ("sum", str(steps), *map(str, sums))])
        + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:] or ARMS)
