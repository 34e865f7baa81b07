"""The molecules on which `reach.py` judges a model, and the geometries that they start from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from labels import Part
from published import SOURCES, apart, read_source
from rdkit import Chem, rdBase
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

from diffrelax.benchmark.sample import choose_sample, embed_in_basin, in_basin
from diffrelax.data.minima import Minimum, embed_with_seed, molecule_of
from diffrelax.data.packing import pair
from diffrelax.data.qm9 import LEVEL, Split, load_qm9, sides_of_constitutions
from diffrelax.geometry import superpose
from diffrelax.levels.distances import AIMNET2 as TRAINED_ON
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import constitution
from diffrelax.store import Store, work_key

WITH_ENERGIES = AIMNET2, SMALL = "aimnet2", "aimnet2-small"
GFN2 = "gfn2-xtb"
LEVELS = {source.name: source.level for source in SOURCES} | {
    AIMNET2: TRAINED_ON,
    SMALL: TRAINED_ON,
    GFN2: "GFN2-xTB",
    "qm9": LEVEL,
}
OF_SMALL = ("qmepa", "rdb7")  # sources of small molecules, all of which count
QM9_ELEMENTS = (1, 6, 7, 8, 9)
FEWEST_HEAVY = 10


@dataclass(frozen=True, eq=False)
class Case:
    """A minimum to be found, and the force field's geometry that is relaxed.

    Parameters
    ----------
    start : Molecule
    reference : (n_atoms, 3) array, Å
        The minimum.
    kind : {"given", "embedded", "relaxed"}
        Where the start is from: it came with the minimum; an embedding in its basin, relaxed; or
        the minimum itself, relaxed.
    """

    start: Molecule
    reference: np.ndarray
    kind: str

    @cached_property
    def constitution(self) -> str:
        """SMILES without stereochemistry, the same for all minima of a molecule."""
        return constitution(Chem.MolFromSmiles(self.start.smiles))

    @cached_property
    def in_basin(self) -> bool:
        """Whether the start is in the basin of the minimum, as training decides it."""
        return in_basin(self.start, self.reference)


def find_cases(
    name: str,
    split: Split,
    n: int,
    data: Path,
    labels: Mapping[str, Sequence[Minimum]],
    work: Store,
) -> tuple[list[Case], list[str]]:
    """Return cases of a source, of so many minima, and the names of minima without a start.

    `labels` are minima by their level of theory. Those at AIMNet2's of fewer than ten heavy atoms
    are a source of their own.

    Of QM9 they are those of `diffrelax evaluate`. Of the others, molecules count that have ten or
    more heavy atoms or an element that QM9 lacks, in the order of the sha256 of their SMILES, and
    the first minimum of each comes before the second of any. Of sources of small molecules all
    count that QM9 does not have on another side of its own split.
    """
    if name == "qm9":
        geometries = load_qm9(split)
        sample = choose_sample(geometries, min(n, len(geometries)))
        both = zip(sample.starts, sample.references, strict=True)
        return [Case(start, reference, "relaxed") for start, reference in both], []
    if name in (*WITH_ENERGIES, GFN2):
        known = labels.get(LEVELS[name], ())
        minima = [m for m in known if (heavy_atoms(m.numbers) < FEWEST_HEAVY) == (name == SMALL)]
    else:
        minima = read_source(next(source for source in SOURCES if source.name == name), data)
    if name in OF_SMALL:
        minima = apart(minima, sides_of_constitutions())
    every = name in (SMALL, *OF_SMALL)
    wanted = (m for m in minima if m.split == split and (every or beyond_qm9(m.numbers)))
    pairs = [(minimum.name, start_of(minimum, work)) for minimum in in_order(wanted)[:n]]
    return [case for _, case in pairs if case], [name for name, case in pairs if not case]


def load_labels(*paths: Path) -> dict[str, list[Minimum]]:
    """Read labels by their level of theory: all parts of releases, or single ones."""
    labels: dict[str, list[Minimum]] = defaultdict(list)
    for path in paths:
        for part in map(Part.load, sorted(path.glob("*.npz")) if path.is_dir() else [path]):
            labels[part.about["level"]] += part.minima
    return labels


def beyond_qm9(numbers: np.ndarray) -> bool:
    """Tell whether a molecule counts for reach."""
    large = heavy_atoms(numbers) >= FEWEST_HEAVY
    return large or not np.isin(numbers, QM9_ELEMENTS).all()


def heavy_atoms(numbers: np.ndarray) -> int:
    """Count the heavy atoms of a molecule."""
    return int(np.count_nonzero(numbers > 1))


def in_order(minima: Iterable[Minimum]) -> list[Minimum]:
    """Sort by the sha256 of the constitution, the first minimum of each before all others."""
    of_molecule: dict[str, list[Minimum]] = defaultdict(list)
    for minimum in minima:
        kind = constitution(Chem.MolFromSmiles(minimum.smiles))
        of_molecule[sha256(kind.encode()).hexdigest()].append(minimum)
    places = [
        (turn, digest, minimum)
        for digest, found in of_molecule.items()
        for turn, minimum in enumerate(found)
    ]
    return [minimum for *_, minimum in sorted(places, key=lambda place: place[:2])]


def start_of(minimum: Minimum, work: Store) -> Case | None:
    """Find the start of a minimum once; None where there is none."""
    if (molecule := molecule_of(minimum)) is None:
        return None
    if minimum.start is not None:
        return Case(
            molecule.with_positions(minimum.start, start="mmff94"), minimum.positions, "given"
        )
    key = work_key("reach start", molecule, {} if minimum.seed is None else {"seed": minimum.seed})
    unit = work.find_or_do(key, lambda: made_start(molecule, minimum))
    if unit["positions"] is None:
        return None
    start = molecule.with_positions(np.array(unit["positions"]), start=unit["start"])
    return Case(start, minimum.positions, unit["kind"])


def made_start(molecule: Molecule, minimum: Minimum) -> dict[str, Any]:
    """Embed a minimum with its seed; without one, embed it, or relax it if that leaves its basin.

    The positions are None where that gives no start.
    """
    found: Molecule | None
    if minimum.seed is not None:
        kind, found = "given", embed_with_seed(minimum)
    elif found := embed_in_basin(molecule):
        kind = "embedded"
    else:
        with rdBase.BlockLogs():
            made = pair(molecule.to_rdkit(), 0, "mmff94")
        kind = "relaxed"
        if not np.isnan(made.start_rmsd):
            found = molecule.with_positions(made.starts, start="mmff94")
    if not found:
        return {"kind": kind, "positions": None}
    positions, _ = superpose(found.positions, molecule.positions)
    return {"kind": kind, "positions": positions.tolist(), "start": found.start}


def scaffold(smiles: str) -> str:
    """Return the Murcko scaffold, without stereochemistry; empty for a molecule without rings."""
    return str(MurckoScaffoldSmiles(smiles=smiles))


def scaffolds_of(smiles: Iterable[str]) -> set[str]:
    """Return the scaffolds of many molecules."""
    with rdBase.BlockLogs():
        return {scaffold(one) for one in set(smiles)}


def is_new(smiles: str, known: set[str]) -> bool:
    """Tell whether a molecule has rings, and a scaffold that is not among the known ones."""
    return scaffold(smiles) not in known | {""}
