"""Published minima beyond QM9, and released labels: read, and packed into files."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers
from labels import Part
from starts import started

from diffrelax.data.minima import (
    SPLITS,
    Minimum,
    join,
    pack_minima,
    remainder_of,
    split_of_constitution,
)
from diffrelax.data.qm9 import Split, default_cache, load_qm9, sides_of_constitutions
from diffrelax.errors import InputError
from diffrelax.molecule.connectivity import constitution_key
from diffrelax.training.geometries import GeometrySet

ENTRY = re.compile(r'(\w+)=("[^"]*"|\S+)')


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

    @property
    def digest(self) -> str:
        """Eight digits that tell its files apart from any others."""
        return sha256((self.sha256 + self.starts_sha256).encode()).hexdigest()[:8]


FILE = Path(__file__).with_name("sources.json")
LISTED = json.loads(FILE.read_text(encoding="utf-8"))["sources"]
SOURCES = tuple(Source(**entries) for entries in LISTED)


def load_published(
    folder: Path,
    cache: Path | None = None,
    *,
    labels: Sequence[Path] = (),
    starts: Path | None = None,
) -> dict[Split, GeometrySet]:
    """Load all published sets and QM9 as one, packing what has not been packed.

    A published molecule is left out if QM9 has it on another side of its own split, so that none is
    learned at one level of theory and judged at another. Packing takes two processors some minutes,
    and an hour for 60,000 labels.

    Parameters
    ----------
    folder : path
        Of the files of `SOURCES`.
    cache : path, optional
        Folder of the packed files. Default: that of QM9.
    labels : sequence of path
        Folders of the parts of releases of labels (`labels`), taken too.
    starts : path, optional
        Folder of starts at cheap levels of theory (`starts`); a minimum is there
        once more for each.

    Returns
    -------
    dict of GeometrySet
        For each split, the molecules numbered anew.
    """
    cache = cache or default_cache()
    sides = lru_cache(sides_of_constitutions)  # asked for once, and only where a source is packed
    packed = [{split: load_qm9(split, cache=cache) for split in SPLITS}]
    packed += [
        _packed(
            cache / f"{source.name}-apart-{source.digest}",
            partial(_pack_source, source, folder, sides),
        )
        for source in SOURCES
    ]
    if starts:
        names = ["qm9", *(source.name for source in SOURCES)]
        packed = [
            {
                split: GeometrySet.join([one, *started(one, starts, name)])
                for split, one in of_source.items()
            }
            for name, of_source in zip(names, packed, strict=True)
        ]
    for release in labels:
        if not (parts := sorted(release.glob("*.npz"))):
            raise InputError(
                f"{release} has no parts of labels (.npz); its card says where they are"
            )
        for path in parts:
            digest = sha256(path.read_bytes()).hexdigest()
            name = f"{path.stem}-apart-{digest[:8]}"
            packed.append(_packed(cache / name, partial(_pack_part, path, sides)))
    return {
        split: join([of_source[split] for of_source in packed if split in of_source])
        for split in SPLITS
    }


def _packed(stem: Path, make: Callable[[], dict[Split, GeometrySet]]) -> dict[Split, GeometrySet]:
    """Load the splits of a set, which are packed first if none is there."""
    paths = {split: stem.with_name(f"{stem.name}-{split}.npz") for split in SPLITS}
    if not paths["train"].exists():
        made = make()
        for split in reversed(SPLITS):  # the largest last, whose file says that all are there
            if split in made:
                made[split].save(paths[split])
    return {split: GeometrySet.load(path) for split, path in paths.items() if path.exists()}


def _pack_source(
    source: Source, folder: Path, sides: Callable[[], dict[str, set[str]]]
) -> dict[Split, GeometrySet]:
    minima = apart(read_source(source, folder), sides())
    return pack_minima(minima, source.level, relax=True)


def _pack_part(path: Path, sides: Callable[[], dict[str, set[str]]]) -> dict[Split, GeometrySet]:
    part = Part.load(path)
    return pack_minima(apart(part.minima, sides()), part.about["level"], relax=False)


def apart(minima: Iterable[Minimum], in_qm9: Mapping[str, set[str]]) -> list[Minimum]:
    """Leave out what QM9 has on another side of its own split."""
    return [m for m in minima if in_qm9.get(constitution_key(m.smiles), set()) <= {m.split}]


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
        split_of_constitution(remainder, f"{source.name} {frame.name}")
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
        raise InputError(f"there is no file {path}")
    if (found := sha256(path.read_bytes()).hexdigest()) != digest:
        raise InputError(
            f"{path} is another file: its sha256 is {found}, and {digest} was expected"
        )
    with gzip.open(path, "rt", encoding="utf-8") as file:
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
