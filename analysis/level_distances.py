"""How far levels of theory are from one another, on molecules that are known at several of them.

Run: python analysis/level_distances.py DATA

DATA is the folder of the published sets (`published`); QM9 stands for its own level.
Minima at AIMNet2 and GFN2-xTB are relaxed from those of each set. Writes the table that
`diffrelax.levels.distances` reads and analysis/results/level_distances.md; a run that was
interrupted goes on with the next pair.
"""

import json
import shlex
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import ase
import numpy as np
from published import SOURCES, read_source
from rdkit import Chem, rdBase
from records import how_made, store
from scipy.spatial.distance import pdist
from tqdm import tqdm

from diffrelax.atomic import write_text
from diffrelax.data.qm9 import LEVEL, load_qm9
from diffrelax.geometry import geometry_errors
from diffrelax.levels import get_calculator
from diffrelax.levels.batch import relax_many
from diffrelax.levels.distances import AIMNET2, TABLE, Distance
from diffrelax.molecule import Molecule
from diffrelax.results.tables import markdown_table
from diffrelax.units import KCAL_PER_MOL

CHEAP = {"aimnet2": AIMNET2, "gfn2-xtb": "GFN2-xTB"}
STEREO = {*"@/\\"}
SAME = 0.3  # Å; no distance between two atoms of the same conformer differs by more
MOST_HEAVY = 20
MOST_PAIRS, MOST_RELAXED = 300, 30
MOST_MATCHES = 2000
CONFORMERS = 3  # of a molecule, in a set
FMAX = 0.01  # eV/Å

Minima = dict[str, list[Molecule]]  # by SMILES without stereochemistry


def main(folder: Path) -> None:
    """Compare what has not been compared."""
    known = json.loads(TABLE.read_text())["distances"] if TABLE.exists() else []
    rows = [Distance(**row) for row in known]
    done = {(row.level, row.other) for row in rows}
    sets = load(folder)
    for a, b in combinations(sets, 2):
        if (a, b) not in done:
            rows += compare(a, b, sets[a], sets[b])
            write(rows)
    for level, name in CHEAP.items():
        for other, minima in sets.items():
            if (other, name) not in done:
                rows += relax(other, level, minima)
                write(rows)
    print(table(rows))


def load(folder: Path) -> dict[str, Minima]:
    """Read small molecules, by level of theory: those of several sets, and some of each."""
    found: dict[str, list[tuple]] = {
        source.level: [
            (plain(m.smiles), m.numbers, m.positions, m.smiles, m.charge)
            for m in read_source(source, folder)
            if m.split == "train" and (m.numbers > 1).sum() <= MOST_HEAVY
        ]
        for source in SOURCES
    }
    smiles = {row[0] for rows in found.values() for row in rows}
    qm9 = load_qm9("train")
    texts = [text.decode() for text in qm9.smiles.tolist()]
    found[LEVEL] = [
        (key, qm9.numbers[qm9.atoms(i)], qm9.positions[qm9.atoms(i)].astype(float), text, 0)
        for i, text in enumerate(texts)
        if (key := plain(text) if set(text) & STEREO else text) in smiles
    ]
    counts = Counter(key for rows in found.values() for key in {row[0] for row in rows})
    return {level: chosen(rows, counts) for level, rows in found.items()}


def plain(smiles: str) -> str:
    """Return a SMILES without stereochemistry; empty if it is none."""
    with rdBase.BlockLogs():
        read = Chem.MolFromSmiles(smiles)
    return Chem.MolToSmiles(read, isomericSmiles=False) if read else ""


def chosen(rows: list[tuple], counts: Counter[str]) -> Minima:
    """Make molecules of minima, some conformers of each; those without bonds are left out."""
    keys = sorted({row[0] for row in rows})
    some = {key for key in keys if counts[key] > 1} | {*keys[:: max(1, len(keys) // MOST_RELAXED)]}
    found: Minima = defaultdict(list)
    for key, numbers, positions, smiles, charge in rows:
        if key in some and len(found[key]) < CONFORMERS:
            atoms = ase.Atoms(numbers, positions, info={"smiles": smiles})
            try:
                molecule = Molecule.from_atoms(atoms, charge=charge)
            except ValueError:
                continue
            if molecule.bonds:
                found[key].append(molecule)
    return {key: molecules for key, molecules in found.items() if molecules}


def compare(a: str, b: str, first: Minima, second: Minima) -> list[Distance]:
    """Compare the conformers that two sets share."""
    errors = []
    shared = sorted(first.keys() & second.keys())
    for smiles in tqdm(shared[:: max(1, len(shared) // MOST_PAIRS)], desc=f"{a}, {b}"):
        matched = [found for one in first[smiles] for other in second[smiles]
                   if (found := same_conformer(one, other)) is not None]  # fmt: skip
        if matched:
            one, positions = matched[0]
            errors.append(geometry_errors(one.numbers, positions, one.positions))
    return [distance(a, b, errors)] if errors else []


def same_conformer(one: Molecule, other: Molecule) -> tuple[Molecule, np.ndarray] | None:
    """Return the positions of another minimum in the order of the first; None if they differ."""
    if one.n_atoms != other.n_atoms:
        return None
    own = pdist(one.positions)
    orders = [np.arange(one.n_atoms)] if np.array_equal(one.numbers, other.numbers) else []
    with rdBase.BlockLogs():
        try:
            orders += map(np.array, other.to_rdkit().GetSubstructMatches(
                one.to_rdkit(), uniquify=False, maxMatches=MOST_MATCHES))  # fmt: skip
        except ValueError:
            return None
    for order in orders:
        if len(order) == one.n_atoms and np.abs(pdist(other.positions[order]) - own).max() < SAME:
            return one, other.positions[order]
    return None


def relax(other: str, level: str, minima: Minima) -> list[Distance]:
    """Relax minima of a set at a cheap level, and see how far they move and how high they were."""
    keys = sorted(minima)
    chosen = [minima[key][0] for key in keys[:: max(1, len(keys) // MOST_RELAXED)]]
    errors, energies = [], []
    for molecule, end in zip(chosen, relax_many(chosen, level, fmax=FMAX), strict=True):
        if not end.converged or np.abs(pdist(end.positions) - pdist(molecule.positions)).max() > 1:
            continue
        errors.append(geometry_errors(molecule.numbers, end.positions, molecule.positions))
        start = molecule.to_atoms()
        start.calc = get_calculator(level, molecule)
        moved = molecule.with_positions(end.positions).to_atoms()
        moved.calc = start.calc
        before, after = (float(atoms.get_potential_energy()) for atoms in (start, moved))
        energies.append((before - after) / KCAL_PER_MOL)
    return [distance(other, CHEAP[level], errors, energies)] if errors else []


def distance(a: str, b: str, errors: list, energies: list[float] | None = None) -> Distance:
    """Sum up as medians over molecules, Å and kcal/mol."""
    return Distance(
        level=a,
        other=b,
        molecules=len(errors),
        bonds=round(float(np.nanmedian([e.bonds for e in errors])), 5),
        angles=round(float(np.nanmedian([e.angles for e in errors])), 5),
        energy=round(float(np.median(energies)), 3) if energies else None,
    )


def write(rows: list[Distance]) -> None:
    """Write the table for the package, and for people."""
    about = how_made(
        command=shlex.join(["python", *sys.argv[:1], "DATA"]),
        split="train",
        units={"bonds": "Å", "angles": "Å", "energy": "kcal/mol"},
        distances=[row._asdict() for row in rows],
    )
    store(TABLE, about)
    write_text(Path("analysis/results/level_distances.md"), table(rows) + "\n")


def table(rows: list[Distance]) -> str:
    """Format as markdown."""
    header = ("level", "other", "molecules", "bonds, mÅ", "1–3 distances, mÅ",
              "above its minimum at the other, kcal/mol")  # fmt: skip
    return markdown_table(
        header,
        [
            (row.level, row.other, str(row.molecules), f"{1e3 * row.bonds:.1f}",
             f"{1e3 * row.angles:.1f}", "–" if row.energy is None else f"{row.energy:.2f}")
            for row in sorted(rows, key=lambda row: row.bonds)
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
