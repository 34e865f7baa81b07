"""Where to aim for ions, at a level of theory at which a model has learned neutral molecules alone.

Run: OMP_NUM_THREADS=1 python analysis/aims.py MODEL analysis/results/dft_reach
Goes on from the relaxations of `dft_reach.py MODEL FOLDER ions`, whose ends it tightens.

Is it better to aim at that level, or at the one at which it has learned ions? The twelve ions of
the report, from their MMFF94 geometries, against their minima at B3LYP/6-31G(2df,p).
"""

import sys
from pathlib import Path

import numpy as np
from dft_reach import ARMS, LEVELS, rows_of
from dft_speedup import about, about_model, embed
from pack_units import unpacked
from records import store
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.benchmark.speedup.run import reference_settings, run_arm
from diffrelax.benchmark.speedup.units import Units
from diffrelax.geometry import geometry_errors
from diffrelax.models.release import Model, load_model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import relax_molecules
from diffrelax.results.documents import MinimisationDocument
from diffrelax.results.tables import markdown_table

REPORT = "ions"
LEVEL = LEVELS[REPORT]
MODEL_ARM = ARMS[-1]


def main(name: str, folder: Path) -> None:
    """Look at each ion, and write the result after each."""
    model = load_model(name)
    units = Units(unpacked(folder), name, LEVEL.level)
    record = about(LEVEL, "test") | about_model(model) | {"units": {"errors": "mÅ"}}
    found = []
    for row in tqdm(rows_of(folder, REPORT)):
        subject = embed(row["name"], row["smiles"], {})
        outcome = run_arm(subject, MODEL_ARM, LEVEL, units)
        if subject.base is None or outcome.end is None:
            continue
        reference = units.relax(outcome.end, reference_settings(LEVEL))
        assert isinstance(reference, MinimisationDocument)
        errors = errors_by_aim(model, subject.base, reference.output.to_molecule())
        found.append({"name": row["name"], "smiles": row["smiles"], "errors": errors})
        store(folder / "aims.json", record | {"ions": found})
    write_text(folder / "aims.md", table(found))


def errors_by_aim(model: Model, start: Molecule, minimum: Molecule) -> dict[str, list[float]]:
    """Return the errors of bonds and of 1–3 distances, mÅ, of the start and by aim."""
    ends = {"MMFF94": start}
    for level in model.config.levels:
        (relaxed,) = relax_molecules([start], model, level=level)
        assert relaxed.molecule is not None
        ends[level] = relaxed.molecule
    errors = {
        aim: geometry_errors(minimum.numbers, end.positions, minimum.positions)
        for aim, end in ends.items()
    }
    return {aim: [round(1e3 * v, 2) for v in (e.bonds, e.angles)] for aim, e in errors.items()}


def table(found: list[dict]) -> str:
    """Format medians over the ions, for each aim."""
    rows = []
    for aim in found[0]["errors"]:
        medians = np.median([one["errors"][aim] for one in found], axis=0)
        rows.append((aim, *(f"{value:.1f}" for value in medians)))
    header = ("the model aims at", "bonds, mÅ", "1–3 distances, mÅ")
    title = f"# {len(found)} ions at {LEVEL.level}, by the level that is aimed at: medians\n\n"
    return title + markdown_table(header, rows) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
