"""QM9 from the ``qm9pack`` wheel: packed once into a cache file, split by index.

Molecules are numbered as in QM9 (1 to 133,885). The split is by ``index % 20``: 0 test, 10
validation, 5 sealed, all others training. Sealed molecules are not packed; only the hashes of their
constitutions are used, to exclude them from other sources.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread, current_thread, main_thread
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from tqdm.auto import tqdm

from diffrelax.errors import InputError
from diffrelax.extras import find_extra
from diffrelax.files.processes import CONTEXT, start_server
from diffrelax.training.config import StartLevel
from diffrelax.training.geometries import GeometrySet

if TYPE_CHECKING:
    from diffrelax.data.packing import Pair

T = TypeVar("T")
LEVEL = "B3LYP/6-31G(2df,p)"
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_OF_REMAINDER: dict[int, Split] = {0: "test", 10: "validation"}
SEALED_REMAINDER = 5
ONE_IN: dict[StartLevel, int] = {"mmff94": 1, "uff": 1, "gfn2-xtb": 20}
MOLECULES = 133_885
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
CHUNK = 16  # molecules per task of a process
MAX_BOND_LENGTH = 1.8  # Å; the longest bond in QM9 is a C–C of about 1.7 Å


@dataclass(frozen=True)
class _Row:
    index: int
    smiles: str
    elements: tuple[str, ...]
    positions: np.ndarray


def split_of_index(index: int) -> Split:
    """Return the split that a QM9 index belongs to.

    Raises
    ------
    ValueError
        If the index is sealed.
    """
    if index % 20 == SEALED_REMAINDER:
        raise InputError(f"QM9 molecule {index} is sealed and must not be used")
    return SPLIT_OF_REMAINDER.get(index % 20, "train")


def load_qm9(
    split: Split, starts: Sequence[StartLevel] = ("mmff94",), cache: Path | None = None
) -> GeometrySet:
    """Load one split of QM9 (B3LYP/6-31G(2df,p) minima); the first call packs QM9.

    Each molecule has one entry per level of starts; only one in twenty has a GFN2-xTB start.

    Parameters
    ----------
    split : {"train", "validation", "test"}
    starts : sequence of {"mmff94", "uff", "gfn2-xtb"}
        Levels of theory of the starts.
    cache : path, optional
        Folder of the packed files. Default: ``$XDG_CACHE_HOME/diffrelax``.

    Raises
    ------
    ValueError
        If a packed file does not exist and the ``qm9pack`` package is not installed.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: choose train, validation or test")
    folder = cache or default_cache()
    sets = []
    for level in starts:
        path = folder / f"qm9-2-{level}.npz"
        if not path.exists():
            pack(level).save(path)
        try:
            packed = GeometrySet.load(path)
        except ValueError as error:
            raise InputError(f"{error}; delete it to pack the data again") from error
        wanted = [i for i, index in enumerate(packed.index) if split_of_index(int(index)) == split]
        sets.append(replace(packed.select(np.array(wanted, dtype=np.int64)), start_levels=(level,)))
    return replace(GeometrySet.join(sets), levels=(LEVEL,))


def sides_of_constitutions() -> dict[str, set[str]]:
    """Return the splits of QM9 that contain each constitution.

    Returns
    -------
    dict of str to set of {"train", "validation", "test", "sealed"}
        Keys are the first 14 letters of the InChIKey.

    Raises
    ------
    ValueError
        If the ``qm9pack`` package is not installed.
    """
    from diffrelax.molecule.connectivity import constitution_key

    sides: dict[str, set[str]] = defaultdict(set)
    for row in _table():
        index = int(row["Index"])
        sealed = index % 20 == SEALED_REMAINDER
        sides[constitution_key(row["SMILES"])].add("sealed" if sealed else split_of_index(index))
    return dict(sides)


def pack(level: StartLevel) -> GeometrySet:
    """Read QM9, assign stereochemistry, relax at a cheap level, and pack all but sealed molecules.

    Molecules whose atoms are not in the order of their SMILES are left out.
    """
    from diffrelax.data.packing import pack as pack_pairs  # needs RDKit; packed files do not

    one_in = ONE_IN[level]
    total = sum(_is_wanted(index, one_in) for index in range(1, MOLECULES + 1))
    pool = _start_pool()
    try:
        prepared = pool.map(partial(_prepare, level=level), _rows(one_in), chunksize=CHUNK)
        results = _reporting(prepared, f"packing QM9, {level}", total)
        pairs = [pair for pair in results if pair is not None]
    finally:
        pool.shutdown(cancel_futures=True)
    return pack_pairs(pairs, start=level)


def _start_pool() -> ProcessPoolExecutor:
    """Start a process for each processor; interrupts are handled by the parent."""
    pool = ProcessPoolExecutor(mp_context=CONTEXT, initializer=_follow_parent)
    before = {}
    if current_thread() is main_thread():  # processes inherit ignored signals
        before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in INTERRUPTS}
    try:
        start_server()
        for _ in range(os.cpu_count() or 1):  # each task starts a process
            pool.submit(int)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return pool


def _follow_parent() -> None:
    """End this process when its parent ends or is killed."""
    for kind in INTERRUPTS:
        signal.signal(kind, signal.SIG_IGN)

    def follow() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _reporting(items: Iterator[T], what: str, total: int) -> Iterator[T]:
    """Yield items with a progress bar or, without a terminal, a line every minute."""
    with tqdm(items, desc=what, total=total, unit="mol", disable=None) as bar:
        if not bar.disable:
            yield from bar
            return
    begun = reported = monotonic()
    print(f"{what}: about {total:,} molecules", file=sys.stderr, flush=True)
    for n, item in enumerate(items, start=1):
        yield item
        if monotonic() - reported > 60:
            reported = monotonic()
            minutes = f"{n:,} after {(reported - begun) / 60:.0f} min"
            print(f"{what}: {minutes}", file=sys.stderr, flush=True)


def default_cache() -> Path:
    """Return the folder of packed sets, ``$XDG_CACHE_HOME/diffrelax``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffrelax"


def _is_wanted(index: int, one_in: int) -> bool:
    return index % 20 != SEALED_REMAINDER and index // 20 % one_in == 0


def _rows(one_in: int = 1) -> Iterator[_Row]:
    for row in _table():
        index = int(row["Index"])
        if not _is_wanted(index, one_in):
            continue
        elements = tuple(re.findall(r"[A-Z][a-z]?", row["Elements"]))
        numbers = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
        positions = np.array(numbers, dtype=np.float64).reshape(-1, 3)
        yield _Row(index, row["SMILES"], elements, positions)


def _table() -> Iterator[dict[str, str]]:
    folders = find_extra("qm9pack", "train", "the data set QM9").submodule_search_locations
    assert folders  # it is a package
    for part in (1, 2, 3):
        path = Path(folders[0]) / "data" / f"qm9_part{part}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(line for line in file if line.strip())


def _prepare(row: _Row, level: StartLevel) -> Pair | None:
    from rdkit import Chem, rdBase

    from diffrelax.data.packing import pair

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(row.smiles)
        if mol is None:
            return None
        mol = Chem.AddHs(mol)
        if tuple(a.GetSymbol() for a in mol.GetAtoms()) != row.elements:
            return None
        ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()])
        vectors = row.positions[ends[:, 0]] - row.positions[ends[:, 1]]
        if np.linalg.norm(vectors, axis=1).max() > MAX_BOND_LENGTH:
            return None
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(row.positions - row.positions.mean(axis=0))
        mol.AddConformer(conformer)
        return pair(mol, row.index, level)
