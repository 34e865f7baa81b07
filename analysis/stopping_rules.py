"""Calls that DFT relaxations take to several stopping rules, from three starts.

Run: OMP_NUM_THREADS=1 python analysis/stopping_rules.py analysis/results/dft_speedup
Needs the program xtb. Takes hours, the smallest molecules first, and goes on where it was stopped,
with what is kept in the folder `units`.

The first test molecules of the report `small`, each relaxed once from each start, in geomeTRIC's
internal coordinates from a GFN2-xTB Hessian, until all rules are met: each rule is looked for along
that one path. Relaxations of that report that stopped at geomeTRIC's criteria are told apart: in
them a stricter rule is never met.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from dft_speedup import B3LYP, MODEL, FinishedWork, about, about_model, chosen
from optimizers import calls_to, path_of, shown_mean
from pack_units import unpacked
from records import store
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.benchmark.estimates import estimate_median
from diffrelax.benchmark.speedup.arms import SpeedupArm
from diffrelax.benchmark.speedup.units import Units
from diffrelax.data.qm9 import load_qm9
from diffrelax.dft.optimization import relax_with
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule
from diffrelax.molecule.comparison import same_minimum
from diffrelax.results.documents import FailureDocument
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.tables import markdown_table
from diffrelax.store import Store, work_key

N = 20
RECIPE = SpeedupArm("any", "geometric+hessian")
STARTS = ("mmff94", "gfn2-xtb", "diffusion")
# geomeTRIC's own criteria, those of the gradient tightened to the strictest rule
SETTINGS = B3LYP.model_copy(update={"optimizer": "geometric", "fmax": 0.003, "max_steps": 40})

Record: TypeAlias = dict[str, Any]


def main(folder: Path) -> None:
    """Work through the molecules, and write what is known after each."""
    units = Units(unpacked(folder), MODEL)
    finished = Units(FinishedWork(unpacked(folder).path), MODEL)
    subjects = list(chosen(load_qm9("test"), range(5, 8), N))
    made = about(SETTINGS, "test") | about_model(load_model(MODEL))
    known = {s.name: [units.start(s, start).molecule for start in STARTS] for s in subjects}
    stored = list(of_all_starts(known, lambda start: stopped(start, finished)))
    found: list[Record] = []

    def write() -> None:
        store(folder / "stopping_rules.json", made | {"paths": found, "stopped": stored})
        write_text(folder / "stopping_rules.md", page(found, stored))

    write()
    names = sorted(known, key=lambda name: min(m.n_atoms for m in known[name] if m))
    for name in tqdm(names, unit="mol"):
        found += of_all_starts({name: known[name]}, lambda start: follow(start, units.work))
        write()


def of_all_starts(
    known: Mapping[str, Sequence[Molecule | None]], relax: Callable[[Molecule], Record | None]
) -> Iterator[Record]:
    """Yield the relaxations of molecules that have them from every start."""
    for starts in known.values():
        relaxed = [relax(start) if start else None for start in starts]
        if None not in relaxed:
            yield dict(zip(STARTS, relaxed, strict=True))


def stopped(start: Molecule, finished: Units) -> Record | None:
    """Find a relaxation that stopped at geomeTRIC's criteria: its last step met them all."""
    try:
        document = finished.relax(start, RECIPE.settings(B3LYP))
    except FileNotFoundError:
        return None
    if isinstance(document, FailureDocument) or not document.converged:
        return None
    assert document.trajectory is not None
    way = document.trajectory
    steps = [*[None] * (len(way.energies) - 1), 0.0]
    path = {
        "energies": way.energies,
        "gmax": way.fmaxes,
        "grms": way.rms_forces,
        "drms": steps,
        "dmax": steps,
    }
    end = document.output.model_dump(mode="json")
    return {"name": start.name, "reason": "", "path": path, "end": end}


def follow(start: Molecule, work: Store) -> Record:
    """Find a relaxation done, or do it."""
    key = work_key("path", start, SETTINGS.model_dump())

    def relax() -> Record:
        dft = relax_with(start, SETTINGS, store=work)
        return {
            "name": start.name,
            "reason": dft.reason,
            "path": path_of(dft.energies, dft.fmaxes, dft.rms_forces, dft.trajectory),
            "end": MoleculeDocument.from_molecule(dft.molecule).model_dump(mode="json"),
        }

    return work.find_or_do(key, relax)


def page(found: Sequence[Record], stored: Sequence[Record]) -> str:
    """Show the calls to each rule."""
    return "\n\n".join(
        [
            "# Calls to several stopping rules",
            "Means of the calls; below, over the pairs that end in the same minimum, the median of "
            "the ratios with its 95% interval, and the sums. The criteria of geomeTRIC are for the "
            "change of the energy, the gradient, and the displacement of the last step.",
            "## Until all rules are met",
            tables(found),
            "## Stopped at geomeTRIC's criteria",
            tables(stored) + "\n",
        ]
    )


def tables(found: Sequence[Record]) -> str:
    """Show mean calls by start, and ratios over those of the model."""
    if not found:
        return "None yet."
    counts = {start: [calls_to(one[start]["path"]) for one in found] for start in STARTS}
    rules = list(counts[STARTS[0]][0])
    means = [
        (start, str(len(found)), *(shown_mean([c[rule] for c in of_start]) for rule in rules))
        for start, of_start in counts.items()
    ]
    ratios = []
    for start in STARTS[:-1]:
        same = [i for i, one in enumerate(found) if same_end(one[start], one["diffusion"])]
        pairs = [(counts[start][i], counts["diffusion"][i]) for i in same]
        cells = [ratio([(slow[rule], fast[rule]) for slow, fast in pairs]) for rule in rules]
        ratios.append((f"{start} over diffusion", str(len(same)), *cells))
    by_start = markdown_table(("start", "molecules", *rules), means)
    return by_start + "\n\n" + markdown_table(("pair", "pairs", *rules), ratios)


def same_end(a: Record, b: Record) -> bool:
    """Tell whether two relaxations have ended in the same minimum."""
    ends = [MoleculeDocument.model_validate(record["end"]).to_molecule() for record in (a, b)]
    return same_minimum(*ends, a["path"]["energies"][-1] - b["path"]["energies"][-1])


def ratio(pairs: Sequence[tuple[int | None, int | None]]) -> str:
    """Show the median ratio of the pairs whose calls are known, and their sums."""
    known = [(a, b) for a, b in pairs if a and b]
    if not known:
        return "–"
    found = estimate_median([a / b for a, b in known])
    interval = "" if np.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    slow, fast = (sum(column) for column in zip(*known, strict=True))
    return f"{found.value:.2f}{interval}, {slow} : {fast}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
