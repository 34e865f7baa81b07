"""What a model saves of the DFT relaxation of drug-like molecules and of small ions.

Run: OMP_NUM_THREADS=1 nice -n 19 python analysis/dft_reach.py MODEL FOLDER [REPORT...]
     python analysis/dft_reach.py --choose SMILES.smi.gz FOLDER
Needs the packages pyscf-dispersion and AcAuto3D and the program xtb.

FOLDER/molecules.csv has the molecules; the second command makes it. Of the test molecules of the
list that are embedded and relaxed with MMFF94, in the order of the sha256 of their constitution,
it takes, with 12 to 17, with 18 to 23 and with 24 to 30 heavy atoms, the first seven that are
neutral and of H, C, N, O and F, and the first seven that have P, S, Cl, Br, I or a charge: 42; and
the first six cations and six anions, of one charge, with up to 8.

`r2scan-3c` and `b3lyp-def2svp` have the 42, `ions` the ions at B3LYP/6-31G(2df,p), and
`pbe0-d3bj-def2svp`, a level that no model has learned, those with 12 to 17 heavy atoms. All start
from the same MMFF94 geometries, have the same optimizer and stopping rule, and are written and kept
as those of dft_speedup.py; any beginning of a report has all kinds and sizes. Starts by MMFF94 and
by GFN2-xTB go on from GFN2-xTB's Hessian, those by AIMNet2 and by the model from AIMNet2's.
Reference minima are relaxed to 0.01 eV/Å, as to 0.003 large molecules take more calls than in all
arms.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from candidates import Candidate, candidates
from dft_speedup import WATTS, about, about_model, arms, embed
from pack_units import unpacked
from rdkit import rdBase
from tqdm import tqdm

from diffrelax.atomic import replacing
from diffrelax.benchmark.speedup.arms import check_arms
from diffrelax.benchmark.speedup.report import write_report
from diffrelax.benchmark.speedup.run import Outcome, assign_basins, reference_settings, run_arm
from diffrelax.benchmark.speedup.units import Units
from diffrelax.dft import DFTSettings
from diffrelax.models.release import load_model
from diffrelax.molecule import Molecule

SIZES = {"12-17": range(12, 18), "18-23": range(18, 24), "24-30": range(24, 31)}  # heavy atoms
OF_KIND = 7  # of each size
SMALL, OF_SIGN = range(2, 9), 6
ION = "ion"
LEVELS = {
    "r2scan-3c": DFTSettings(xc="r2scan-3c"),
    "b3lyp-def2svp": DFTSettings(xc="b3lyp", basis="def2-svp"),
    "ions": DFTSettings(),
    "pbe0-d3bj-def2svp": DFTSettings(xc="pbe0-d3bj", basis="def2-svp"),
}
SMALLER = ("pbe0-d3bj-def2svp",)  # reports of the molecules up to 17 heavy atoms
REFERENCE_FMAX = 0.01  # eV/Å
ARMS = [
    *arms("mmff94 gfn2-xtb", "tric+hessian"),
    *arms("aimnet2 diffusion", "tric+aimnet2-hessian"),
]


def main(model: str, folder: Path, reports: Sequence[str]) -> None:
    """Work through some reports, molecule by molecule."""
    check_arms(ARMS)
    for report in reports:
        compare(folder / report, model, rows_of(folder, report))


def rows_of(folder: Path, report: str) -> list[dict[str, str]]:
    """Return the molecules of a report."""
    with (folder / "molecules.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if takes_part(row, report)]


def takes_part(row: dict[str, str], report: str) -> bool:
    """Tell whether a molecule is one of those of a report."""
    if report == "ions":
        return row["size"] == ION
    return row["size"] == "12-17" if report in SMALLER else row["size"] in SIZES


def compare(folder: Path, model: str, rows: Sequence[dict[str, str]]) -> None:
    """Relax molecules in all arms, and write the report after each."""
    level = LEVELS[folder.name]
    folder.mkdir(parents=True, exist_ok=True)
    made = about(level, "test") | about_model(load_model(model))
    units = Units(unpacked(folder.parent), model, level.level)
    tight = reference_settings(level).model_copy(update={"fmax": REFERENCE_FMAX})
    outcomes: list[Outcome] = []
    for row in tqdm(rows, unit="molecule", disable=None):
        subject = embed(row["name"], row["smiles"], {})
        ends = [run_arm(subject, arm, level, units) for arm in ARMS]
        outcomes += assign_basins(ends, lambda end: units.relax(end, tight))
        write_report(folder, outcomes, made, WATTS)


def choose(path: Path, folder: Path) -> None:
    """Choose the molecules and write them down."""
    found = chosen(candidates(path, "test", "dft"))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "molecules.csv") as part, part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "smiles", "size", "kind", "heavy_atoms", "charge"))
        for size, kind, one in found:
            writer.writerow((one.key, one.smiles, size, kind, one.heavy, one.charge))


def chosen(ordered: Iterable[Candidate]) -> list[tuple[str, str, Candidate]]:
    """Return sizes, kinds and molecules: the first of each size and kind, then the second ones."""
    wanted = {(size, kind): OF_KIND for size in SIZES for kind in ("plain", "other")}
    wanted |= {(ION, "cation"): OF_SIGN, (ION, "anion"): OF_SIGN}
    found: dict[tuple[str, str], list[Candidate]] = {group: [] for group in wanted}
    for one in ordered:
        group = group_of(one)
        if group and len(found[group]) < wanted[group] and is_embedded(one.smiles):
            found[group].append(one)
    turns = range(max(wanted.values()))
    return [
        (*group, members[turn]) for turn in turns for group, members in found.items()
        if turn < len(members)
    ]  # fmt: skip


def group_of(one: Candidate) -> tuple[str, str] | None:
    """Return size and kind of a molecule; None if it belongs to none."""
    if abs(one.charge) == 1 and one.heavy in SMALL:
        return ION, "cation" if one.charge > 0 else "anion"
    kind = "plain" if one.is_plain else "other" if one.is_other else ""
    sizes = (size for size, heavy in SIZES.items() if one.heavy in heavy)
    return next(((size, kind) for size in sizes if kind), None)


def is_embedded(smiles: str) -> bool:
    """Tell whether a molecule can be embedded and relaxed with MMFF94."""
    try:
        with rdBase.BlockLogs():
            return Molecule.from_smiles(smiles).start == "mmff94"
    except ValueError:
        return False


if __name__ == "__main__":
    if sys.argv[1] == "--choose":
        choose(*map(Path, sys.argv[2:4]))
    else:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:] or list(LEVELS))
