"""Published minima beyond QM9: read, split, paired with starts, packed into files.

The split is over all sources together: the sha256 of the first 14 letters of a molecule's InChIKey,
which stand for its constitution, modulo 20. 0 and 1 are sealed, 2 and 3 test, 4 validation, the
rest training.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import ase
import numpy as np
from ase.data import atomic_numbers
from rdkit import rdBase
from tqdm.auto import tqdm

from diffrelax.data.packing import Pair, pack, pair, pair_with
from diffrelax.data.qm9 import Split, default_cache, load_qm9
from diffrelax.geometry import bond_matrix
from diffrelax.molecule import Molecule
from diffrelax.training.config import TrainingConfig
from diffrelax.training.geometries import GeometrySet

ENTRY = re.compile(r'(\w+)=("[^"]*"|\S+)')
SEALED = (0, 1)
SPLIT_OF_REMAINDER: dict[int, Split] = {2: "test", 3: "test", 4: "validation"}
BASIN = TrainingConfig()
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """A published set of minima.

    Attributes
    ----------
    name : str
    level : str
        Level of theory of the minima.
    file, sha256 : str
        Extended XYZ, gzipped; each frame with name, smiles, charge and inchikey.
    origin : str
        Public repository that it comes from.
    starts, starts_sha256 : str
        Force-field starts of the same molecules under the same names, if there are any.
    """

    name: str
    level: str
    file: str
    sha256: str
    origin: str
    starts: str = ""
    starts_sha256: str = ""


SOURCES = (
    Source(
        name="cascade",
        level="M06-2X/def2-TZVP",
        file="cascade-m062x-def2tzvp.extxyz.gz",
        sha256="463e001ede5f15814c15981432eec70e5e4e7faef7f005a281d0eb25b28ff1d2",
        origin="https://github.com/patonlab/CASCADE data/DFT8K/DFT.sdf.gz, MIT",
        starts="cascade-forcefield.extxyz.gz",
        starts_sha256="f8b97d642d20f006aaba70fc0b577fe644eead0b5ea7998b28ecce79ea2fb233",
    ),
    Source(
        name="flexisol",
        level="r2SCAN-3c",
        file="flexisol-r2scan3c.extxyz.gz",
        sha256="2e9d94c70b57df823dd31ed86431942d4fc76f4d55d9f71b61fd37fdded0ac9f",
        origin="https://github.com/grimme-lab/flexisol flexisol/gas, MIT",
    ),
    *(
        Source(
            name=f"lvpp-{stem}",
            level=level,
            file=f"lvpp-{stem}.extxyz.gz",
            sha256=digest,
            origin="https://github.com/lvpp/sigma geometry/, MIT",
        )
        for stem, level, digest in (
            (
                "b3lyp-def2svp",
                "B3LYP/def2-SVP",
                "64d0d4f77fd43550beebe0a04be34e53d1b55729b1972bdd1367fd8a19fbe5d3",
            ),
            (
                "b3lyp-def2svpd",
                "B3LYP/def2-SVPD",
                "bf07ba2735f6403ff358ede851d19b1cf001c9f3182137ac42da6068b1c394d9",
            ),
            (
                "bp86-def2svp",
                "BP86/def2-SVP",
                "9e4e8f077ca3523fcb27904c9334dd91f1431fb3d13726105d237238ac49b375",
            ),
            (
                "bp86-def2svpd",
                "BP86/def2-SVPD",
                "bb1cb8adbfeded3e2863ffac1eeaf9cbc20d496c251cbae9b70d77503526f736",
            ),
        )
    ),
)


def load_published(folder: Path, cache: Path | None = None) -> dict[Split, GeometrySet]:
    """Load all published sets and QM9 as one, packing what has not been packed.

    Packing takes two processors some minutes.

    Parameters
    ----------
    folder : path
        Of the files of `SOURCES`.
    cache : path, optional
        Folder of the packed files. Default: that of QM9.

    Returns
    -------
    dict of GeometrySet
        For each split, the molecules numbered anew.
    """
    cache = cache or default_cache()
    packed = []
    for source in SOURCES:
        paths = {s: cache / f"{source.name}-{source.sha256[:8]}-{s}.npz" for s in SPLITS}
        if not all(path.exists() for path in paths.values()):
            sets = pack_minima(read_source(source, folder), source.level, relax=True)
            for split, path in paths.items():
                sets[split].save(path)
        packed.append({split: GeometrySet.load(path) for split, path in paths.items()})
    return {
        split: join([load_qm9(split, cache=cache), *(sets[split] for sets in packed)])
        for split in SPLITS
    }


def join(sets: Sequence[GeometrySet]) -> GeometrySet:
    """Return the molecules of several sources as one set, numbered anew."""
    joined = GeometrySet.join(sets)
    return replace(joined, index=np.arange(len(joined)))


class Minimum(NamedTuple):
    """A minimum as a source has it.

    Attributes
    ----------
    place : int
        Its number in the source.
    name, smiles : str
    remainder : int
        Of the hash of its constitution, from 0 to 19.
    charge : int
    numbers : (n_atoms,) int array
    positions : (n_atoms, 3) array, Å
    start : (n_atoms, 3) array, Å, optional
        What comes with it as a start.
    """

    place: int
    name: str
    smiles: str
    remainder: int
    charge: int
    numbers: np.ndarray
    positions: np.ndarray
    start: np.ndarray | None = None


def remainder_of(inchikey: str) -> int:
    """Return the remainder, from 0 to 19, on which the split of a constitution is defined."""
    return int(sha256(inchikey[:14].encode()).hexdigest(), 16) % 20


def split_of(remainder: int, name: str) -> Split:
    """Return the split that a remainder belongs to.

    Raises
    ------
    ValueError
        If it is sealed.
    """
    if remainder in SEALED:
        raise ValueError(f"{name} is sealed: it is kept from every use")
    return SPLIT_OF_REMAINDER.get(remainder, "train")


def read_source(source: Source, folder: Path) -> list[Minimum]:
    """Read a published set, with its starts if it has any.

    Raises
    ------
    ValueError
        If a file is missing or another than the one that was published, or a molecule is sealed.
    """
    starts = {}
    if source.starts:
        frames = _frames(folder / source.starts, source.starts_sha256)
        starts = {frame.name: frame for frame in frames}
    minima = []
    for i, frame in enumerate(_frames(folder / source.file, source.sha256)):
        remainder = remainder_of(frame.inchikey)
        split_of(remainder, f"{source.name} {frame.name}")
        start = starts.get(frame.name)
        if start is not None and not np.array_equal(start.numbers, frame.numbers):
            start = None
        minima.append(
            Minimum(
                place=i,
                name=frame.name,
                smiles=frame.smiles,
                remainder=remainder,
                charge=frame.charge,
                numbers=frame.numbers,
                positions=frame.positions,
                start=None if start is None else start.positions,
            )
        )
    return minima


class _Frame(NamedTuple):
    name: str
    smiles: str
    inchikey: str
    charge: int
    numbers: np.ndarray
    positions: np.ndarray


def _frames(path: Path, digest: str) -> Iterator[_Frame]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if (found := sha256(path.read_bytes()).hexdigest()) != digest:
        raise ValueError(
            f"{path} is another file: its sha256 is {found}, and {digest} was expected"
        )
    with gzip.open(path, "rt") as file:
        for line in file:
            about = dict(ENTRY.findall(next(file)))
            rows = [next(file).split() for _ in range(int(line))]
            yield _Frame(
                name=about["name"].strip('"'),
                smiles=about["smiles"].strip('"'),
                inchikey=about["inchikey"],
                charge=int(about["charge"]),
                numbers=np.array([atomic_numbers[row[0]] for row in rows]),
                positions=np.array([row[1:4] for row in rows], dtype=np.float64),
            )


def read_labels(folder: Path, molecules: Path) -> list[Minimum]:
    """Read minima that were made from starts here, with these starts.

    Parameters
    ----------
    folder : path
        Of files ``*.npz`` with the arrays row, offsets, numbers, start, positions, charge and
        smiles, as in a `GeometrySet`; ``row`` counts the lines of ``molecules``.
    molecules : path
        Table with a line for each start, whose fifth column is the remainder of its constitution.
    """
    remainders = [int(line.split("\t")[4]) for line in molecules.read_text().splitlines()]
    minima = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        for i, row in enumerate(arrays["row"].tolist()):
            atoms = slice(*arrays["offsets"][i : i + 2].tolist())
            split_of(remainders[row], f"{path} row {row}")
            minima.append(
                Minimum(
                    place=row,
                    name=f"row {row}",
                    smiles=arrays["smiles"][i].decode(),
                    remainder=remainders[row],
                    charge=int(arrays["charge"][i]),
                    numbers=arrays["numbers"][atoms],
                    positions=arrays["positions"][atoms].astype(np.float64),
                    start=arrays["start"][atoms].astype(np.float64),
                )
            )
    return minima


def pack_minima(minima: Sequence[Minimum], level: str, *, relax: bool) -> dict[Split, GeometrySet]:
    """Pair minima with starts, in as many processes as there are processors, and split them.

    Parameters
    ----------
    minima : sequence of Minimum
    level : str
        Level of theory of all of them.
    relax : bool
        Relax each with MMFF94 to make a start, and take what came with it only where this leaves
        the basin or fails; otherwise take what came with it.

    Returns
    -------
    dict of GeometrySet
        For each split; molecules whose bonds cannot be perceived are left out.
    """
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        found = pool.map(_relaxed_pair if relax else _given_pair, minima, chunksize=16)
        pairs = list(tqdm(found, total=len(minima), desc=level, unit="mol", disable=None))
    packed = {}
    for split in SPLITS:
        chosen = [
            (one, m.charge)
            for one, m in zip(pairs, minima, strict=True)
            if one is not None and split_of(m.remainder, m.name) == split
        ]
        if chosen:
            charges = np.array([charge for _, charge in chosen], dtype=np.int8)
            packed[split] = replace(
                pack([one for one, _ in chosen]), charge=charges, levels=(level,)
            )
    return packed


def _given_pair(minimum: Minimum) -> Pair | None:
    if minimum.start is None:
        return None
    bonded = bond_matrix(minimum.numbers, minimum.positions)
    return pair_with(
        minimum.start, minimum.numbers, minimum.positions, bonded, minimum.place, minimum.smiles
    )


def _relaxed_pair(minimum: Minimum) -> Pair | None:
    atoms = ase.Atoms(minimum.numbers, minimum.positions, info={"smiles": minimum.smiles})
    try:
        molecule = Molecule.from_atoms(atoms, name=minimum.name, charge=minimum.charge)
        if not molecule.bonds:
            return None
        with rdBase.BlockLogs():
            made = pair(molecule.to_rdkit(), minimum.place, "mmff94")
    except ValueError:
        return None
    given = _given_pair(minimum)
    return given if given is not None and not _in_basin(made) and _in_basin(given) else made


def _in_basin(one: Pair) -> bool:
    return one.start_rmsd <= BASIN.max_start_rmsd and one.start_torsion <= BASIN.max_start_torsion
