"""Minima for fine-tuning: reading, checks, starts and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from rdkit import Chem, rdBase
from tqdm.auto import tqdm

from diffrelax.data.minima import remainder_of
from diffrelax.data.packing import Pair, pack, pair
from diffrelax.errors import InputError
from diffrelax.files.reading import Record, Rejected, each_record, read_record
from diffrelax.levels.distances import find_level
from diffrelax.models.domain import bond_kinds, outside_method
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import constitution_key
from diffrelax.molecule.doubts import odd_reading
from diffrelax.molecule.environments import count_environments
from diffrelax.molecule.force_fields import has_mmff94
from diffrelax.training.config import ModelConfig, StartLevel
from diffrelax.training.geometries import GeometrySet

HELD_BACK = (2, 3)  # of 20 remainders; test set of all released models except those of QM9
FEWEST = 10  # constitutions; fewer are too few for a validation set
NO = ("false", "f", "no", "0")
LARGEST_FORCE = 0.1  # eV/Å; looser than usual convergence criteria


@dataclass(frozen=True, eq=False)
class Minima:
    """Minima for fine-tuning.

    Parameters
    ----------
    train_set, validation_set : GeometrySet
    bonds : frozenset of (int, int)
        Pairs of atomic numbers, the smaller first, that are bonded in the training minima.
    environments : mapping of str to int
        Number of training molecules for each atomic environment.
    left_out : list of Rejected
        Inputs that are not molecules or not minima, or that the network cannot learn, with reasons.
    notes : list of str
        Remarks on the other inputs.
    """

    train_set: GeometrySet
    validation_set: GeometrySet
    bonds: frozenset[tuple[int, int]]
    environments: Mapping[str, int]
    left_out: list[Rejected]
    notes: list[str]


def load_minima(
    path: Path, config: ModelConfig, level: str | None = None, charge: int | None = None
) -> Minima:
    """Read minima and pair them with starts at the start levels of the model.

    About a tenth of the constitutions, with all stereoisomers and conformers, is used for
    validation: those in the test set of the released models (`diffrelax.data.minima`) or, if there
    are none, the one with the smallest remainder. The choice is stable when minima are added.

    Parameters
    ----------
    path : path
    config : ModelConfig
        Configuration of the model to fine-tune.
    level : str, optional
        Level of theory of the minima. Default: the level of the model.
    charge : int, optional
        Charge of geometries without one. Default: 0.

    Raises
    ------
    ValueError
        If there are fewer than ten constitutions.
    """
    level = config.level if level is None else level
    read = _read_minima(path, config, level, charge)
    kinds = [constitution_key(one.smiles) for one in read.pairs]
    remainders = {kind: remainder_of(kind) for kind in kinds}
    if len(remainders) < FEWEST:
        reasons = "".join(f"; {one.name}: {one.reason}" for one in read.left_out[:3])
        raise InputError(
            f"{path} has minima of {len(remainders)} molecules that the model can learn; at "
            f"least {FEWEST} are needed{reasons}"
        )
    held = {kind for kind, remainder in remainders.items() if remainder in HELD_BACK}
    held = held or {min(remainders, key=lambda kind: (remainders[kind], kind))}
    geometries = pack(read.pairs, (level,))
    validation = np.array([kind in held for kind in kinds])
    train_set = geometries.select(np.flatnonzero(~validation))
    trained = [read.molecules[i] for i in set(train_set.index.tolist())]
    return Minima(
        train_set=train_set,
        validation_set=geometries.select(np.flatnonzero(validation)),
        bonds=frozenset().union(*map(bond_kinds, trained)),
        environments=count_environments({m.smiles: m for m in trained}.values()),
        left_out=read.left_out,
        notes=[*read.notes, *_without_start(geometries, config)],
    )


class _Read(NamedTuple):
    """Minima that were read, by index in the file."""

    molecules: dict[int, Molecule]
    pairs: list[Pair]
    left_out: list[Rejected]
    notes: list[str]


def _read_minima(path: Path, config: ModelConfig, level: str, charge: int | None) -> _Read:
    """Read minima and pair the usable ones with starts; see `load_minima`."""
    read = _Read({}, [], [], [])
    of_level: Counter[str] = Counter()
    records = list(each_record(path, charge))
    for i, record in enumerate(tqdm(records, desc="pairing minima", unit="mol", disable=None)):
        molecule = read_record(record)
        if isinstance(molecule, Rejected):
            read.left_out.append(molecule)
            continue
        properties = record.properties if isinstance(record, Record) else {}
        force = _largest_force(record) if isinstance(record, Record) else 0.0
        odd = odd_reading(molecule)
        try:
            if not (reason := _why_not(molecule, properties, force, config)):
                read.pairs.extend(_pairs(molecule, i, config.training.starts))
        except ValueError as error:  # from RDKit, for invalid valences
            reason = str(error)
        if reason:
            reason = "; ".join(filter(None, (reason, odd)))
            read.left_out.append(Rejected(molecule.name, f"{path}#{i + 1}", reason))
            continue
        read.molecules[i] = molecule
        of_level[str(properties.get("level", level))] += 1
        if odd:
            read.notes.append(f"{molecule.name}: {odd}")
    read.notes.extend(
        f"{n} minima are marked as {other}, but are learned as {level}"
        for other, n in of_level.items()
        if find_level(other, [level]) is None
    )
    return read


def _why_not(
    molecule: Molecule, properties: Mapping[str, Any], force: float, config: ModelConfig
) -> str:
    """Return why a molecule cannot be learned from; empty if it can."""
    if molecule.start != "given":
        return "it has no coordinates"
    converged, verdict = properties.get("converged"), properties.get("verdict", "minimum")
    if converged is not None and str(converged).lower() in NO:
        return "its relaxation has not converged"
    if converged is None and verdict != "minimum":
        return f"its verdict is {verdict}, so it is not a minimum"
    if force > LARGEST_FORCE:
        return (
            f"a force of {force:.2f} eV/Å acts on an atom (at most {LARGEST_FORCE:g} at a minimum)"
        )
    return outside_method(molecule, config.network.elements, config.network.charges)


def _largest_force(record: Record) -> float:
    """Return the largest force in a frame, eV/Å; 0 if it has none."""
    if record.suffix not in (".xyz", ".extxyz") or "force" not in record.text:
        return 0.0
    try:
        forces = ase.io.read(StringIO(record.text), format="extxyz").get_forces()
    except (PropertyNotImplementedError, RuntimeError, ValueError, KeyError):
        # no forces with that name; whether it is a molecule is checked elsewhere
        return 0.0
    return float(np.linalg.norm(forces, axis=1).max())


def _pairs(molecule: Molecule, index: int, levels: Sequence[StartLevel]) -> list[Pair]:
    """Pair a minimum with a start at each level; UFF is used if MMFF94 has no parameters."""
    with rdBase.BlockLogs():
        mol = molecule.to_rdkit()
        if "uff" not in levels and not has_mmff94(mol):
            levels = ["uff" if level == "mmff94" else level for level in levels]
        return [pair(Chem.Mol(mol), index, level) for level in levels]


def _without_start(geometries: GeometrySet, config: ModelConfig) -> Iterator[str]:
    """Describe how many minima have no start for the bridge, if any."""
    basin = config.training.in_basin(geometries.start_rmsd, geometries.start_torsion)
    n, used = (len(set(places.tolist())) for places in (geometries.index, geometries.index[basin]))
    if n > used:
        yield (
            f"{n - used} of {n} minima have no start: with "
            f"{' and '.join(config.training.starts)} the relaxation ends in another "
            "minimum, or fails; they are learned from noise alone"
        )
