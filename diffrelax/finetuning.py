"""Fine-tuning: a released model goes on learning, from minima at a user's own level of theory."""

from __future__ import annotations

import copy
import filecmp
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
import yaml
from rdkit import Chem, rdBase
from torch.nn import Embedding
from tqdm.auto import tqdm

from diffrelax.atomic import replacing, write_text
from diffrelax.data.minima import remainder_of
from diffrelax.data.packing import Pair, pack, pair
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.files import check_charge
from diffrelax.files.reading import Record, Rejected, each_record, read_record
from diffrelax.levels.distances import Nearest, find_level
from diffrelax.models.domain import bond_kinds, outside_method
from diffrelax.models.release import Model, is_release, own_weights
from diffrelax.molecule import Molecule
from diffrelax.molecule.connectivity import constitution_key
from diffrelax.molecule.doubts import odd_reading
from diffrelax.molecule.environments import count_environments, write_environments
from diffrelax.molecule.force_fields import has_mmff94
from diffrelax.network.config import DenseNetworkConfig, NetworkConfig
from diffrelax.network.network import EquivariantNetwork
from diffrelax.training.config import ModelConfig, StartLevel, TrainingConfig
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.loop import LOCK, check_folder, locked

HELD_BACK = (2, 3)  # of 20 remainders: no released model has learned these, but for those of QM9
FEWEST = 10  # constitutions; with fewer there is nothing to validate on
ENVIRONMENTS = "environments.txt"
NO = ("false", "f", "no", "0")
LARGEST_FORCE = 0.1  # eV/Å; looser than the usual criteria of relaxations


@dataclass(frozen=True, eq=False)
class Minima:
    """Minima to learn from.

    Parameters
    ----------
    train_set, validation_set : GeometrySet
    bonds : frozenset of (int, int)
        Pairs of atomic numbers, the smaller first, that are bonded in those to train on.
    environments : mapping of str to int
        Environments of atoms, each with the number of molecules to train on that have it.
    left_out : list of Rejected
        What is not a molecule or no minimum, or what the network cannot learn, with the reason.
    notes : list of str
        What is odd about the others.
    """

    train_set: GeometrySet
    validation_set: GeometrySet
    bonds: frozenset[tuple[int, int]]
    environments: Mapping[str, int]
    left_out: list[Rejected]
    notes: list[str]


def begin_finetuning(
    model: Model,
    base: str,
    data: Path,
    folder: Path,
    *,
    level: str,
    steps: int,
    charge: int | None = None,
    only_level: bool = False,
) -> tuple[ModelConfig, Minima]:
    """Write the ``config.yaml`` of a fine-tuning run, a copy of its minima and what it will know.

    The shape of the network, its noise levels and its schedule are the model's. The learning rate
    starts at a quarter of the one that it was trained with, batches have half as many molecules; of
    a model that was fine-tuned itself, both stay as they are. The learning rate falls to zero.

    Parameters
    ----------
    model : Model
        What the run starts from.
    base : str
        The name or path that it was loaded by.
    data : path
        Minima, in any format that `diffrelax.read_molecules` reads with coordinates.
    folder : path
        Of the new model, which takes its name from it.
    level : str
        Level of theory of the minima; one that the model has learned, however it is spelled.
    steps : int
        Length of the run.
    charge : int, optional
        Of minima in a file that tells none. Default: 0.
    only_level : bool
        Learn what tells the levels of theory apart alone: the model stays as it is at all others,
        with its bounds on errors, and covers what it covered.

    Returns
    -------
    ModelConfig
        As in the ``config.yaml``.
    Minima

    Raises
    ------
    ValueError
        If the folder has the name of a release, or holds a run, a ``config.yaml``, environments or
        another file of the name of the data already, if another run begins there, if the model
        generates or has no levels to learn alone, if the level has no name, or if the minima are
        too few.
    """
    check_charge(charge, [data])
    if not level.strip():
        raise ValueError("the level of theory of the minima has no name: give one")
    if is_release(name := folder.resolve().name):
        raise ValueError(f"{name} is the name of a release: choose another folder")
    if model.config.generation:
        raise ValueError(f"{model.name} generates molecules: fine-tune a model that relaxes them")
    check_folder(folder, resume=False)
    is_new = not folder.exists()
    with locked(folder):
        try:
            return _begin(model, base, data, folder, level, steps, charge, only_level)
        except BaseException:
            if is_new:
                with suppress(OSError):  # where something is in it
                    (folder / LOCK).unlink()
                    folder.rmdir()
            raise


def _begin(
    model: Model,
    base: str,
    data: Path,
    folder: Path,
    level: str,
    steps: int,
    charge: int | None,
    only_level: bool,
) -> tuple[ModelConfig, Minima]:
    """Begin in a folder of which other runs are kept out; see `begin_finetuning`."""
    check_folder(folder, resume=False)
    if (folder / "config.yaml").exists():
        raise ValueError(
            f"{folder} has a config.yaml already: choose another folder, or train that model with "
            f"diffrelax train {folder / 'config.yaml'}"
        )
    if (folder / ENVIRONMENTS).exists():
        raise ValueError(f"{folder / ENVIRONMENTS} would be lost: choose another folder")
    kept = folder / data.name
    if kept.exists() and data.exists() and not filecmp.cmp(kept, data, shallow=False):
        raise ValueError(f"{kept} is another file than {data}: rename one of them")
    level = find_level(level, model.config.levels) or level
    network = _with_level(model.config.network, level)
    if only_level and not network.levels:
        raise ValueError(f"{model.name} is not told the level of theory: let it learn all weights")
    minima = load_minima(data, model.config, level, charge)
    source = model.config.training
    tuned = source.base is not None and source.cooldown >= source.steps
    batch_size = source.batch_size if tuned else source.batch_size // 2
    training = source.model_copy(
        update=_of_length(steps)
        | {
            "data": data.name,
            "charge": charge,
            "base": str(own.resolve()) if (own := own_weights(base)) else model.name,
            "learn": "level" if only_level else "all",
            "learning_rate": source.learning_rate if tuned else source.learning_rate / 4,
            "batch_size": max(1, min(batch_size, len(minima.train_set))),
        }
    )
    config = model.config.model_copy(
        update={
            "name": folder.resolve().name,
            "level": level,
            "network": network,
            "training": TrainingConfig.model_validate(training.model_dump()),
        }
    )
    entries = (
        _other_bounds(config) if only_level else covered(config, minima.train_set, minima.bonds)
    )
    config = config.model_copy(update=entries)
    if data.resolve() != kept.resolve():
        with replacing(kept) as part:
            shutil.copyfile(data, part)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(folder / "config.yaml", text)
    write_known(model, minima.environments, training, folder)
    return config, minima


def _of_length(steps: int) -> dict[str, Any]:
    """Return the entries of a run of this many steps, whose learning rate falls all the time."""
    return {
        "steps": steps,
        "warmup": max(1, steps // 20),
        "cooldown": steps,
        "ema": 0.99,
        "log_every": max(1, steps // 64),
        "validate_every": max(1, steps // 8),
        "save_every": max(1, steps // 8),
    }


def _other_bounds(config: ModelConfig) -> dict[str, Any]:
    """Return the entries of a model that stays as it is at all levels of theory but its own."""
    return {"calibrations": {k: v for k, v in config.calibrations.items() if k != config.level}}


def covered(
    config: ModelConfig, train_set: GeometrySet, bonds: Iterable[tuple[int, int]] = ()
) -> dict[str, Any]:
    """Return the entries of what a model covers that learns from a set with all weights.

    Beside them, that is what its configuration says if it has a base.

    Parameters
    ----------
    config : ModelConfig
    train_set : GeometrySet
    bonds : iterable of two int each
        Pairs of atomic numbers, beside those in the environments that are kept with the weights.
    """
    largest, most_heavy = int(train_set.sizes.max()), int(train_set.heavy_sizes.max())
    if config.training.base is None:
        return {"largest": largest, "most_heavy": most_heavy, "bonds": tuple(sorted(bonds))}
    return {
        "largest": max(config.largest, largest),
        "most_heavy": max(config.most_heavy, most_heavy),
        "bonds": tuple(sorted({*bonds, *config.bonds})),
        "calibrations": {},
    }


def write_known(
    base: Model | None, minima: Mapping[str, int], training: TrainingConfig, folder: Path
) -> None:
    """Write beside a run that begins which environments of atoms it is about to know.

    Those of its base and those of its minima, if it learns all weights: the row of a level teaches
    it no molecules. Where both have one, the larger number counts, for molecules may be the same.
    """
    known = Counter(base.environments if base else None)
    if training.learn == "all":
        known |= Counter(minima)
    write_environments(known, folder / ENVIRONMENTS)


def prepare_base(model: Model, levels: tuple[str, ...]) -> tuple[Denoiser, dict[str, Nearest]]:
    """Let a model begin at levels of theory that it has not learned as at the nearest that it has.

    Parameters
    ----------
    model : Model
    levels : tuple of str
        Those that the network is to tell apart.

    Returns
    -------
    Denoiser
        To begin a training run with.
    dict of str to Nearest
        As what each level begins that is new.
    """
    network = model.denoiser.network
    if not levels or not isinstance(network, EquivariantNetwork):
        return model.denoiser, {}
    learned = model.config.levels
    nearest = {
        level: Nearest(level, "") if level in learned else model.nearest_level(level)
        for level in levels
    }
    places = [network.levels.index(one.level) if network.levels else 0 for one in nearest.values()]
    base = copy.deepcopy(model.denoiser)
    base.network.levels = levels
    base.network.level_embedding = Embedding.from_pretrained(network.level_embedding.weight[places])
    new = {level: one for level, one in nearest.items() if level not in learned}
    return base, new


def _with_level(
    network: NetworkConfig | DenseNetworkConfig, level: str
) -> NetworkConfig | DenseNetworkConfig:
    """Add a level of theory to those that a network tells apart."""
    if not network.levels or level in network.levels:
        return network
    return network.model_copy(update={"levels": (*network.levels, level)})


def load_minima(
    path: Path, config: ModelConfig, level: str | None = None, charge: int | None = None
) -> Minima:
    """Read minima and pair them with their relaxations at the levels of the model's starts.

    A tenth of the constitutions is kept for validation with all stereoisomers and conformers: those
    that the released models were tested on (`diffrelax.data.minima`), and if there is none the one
    with the least remainder. So they stay the same where minima are added, and however ions are
    drawn.

    Parameters
    ----------
    path : path
    config : ModelConfig
        Of the model that is to learn them.
    level : str, optional
        Their level of theory. Default: that of the model.
    charge : int, optional
        Of those in a file that tells none. Default: 0.

    Raises
    ------
    ValueError
        If fewer than ten constitutions are left.
    """
    level = config.level if level is None else level
    read = _read_minima(path, config, level, charge)
    kinds = [constitution_key(one.smiles) for one in read.pairs]
    remainders = {kind: remainder_of(kind) for kind in kinds}
    if len(remainders) < FEWEST:
        reasons = "".join(f"; {one.name}: {one.reason}" for one in read.left_out[:3])
        raise ValueError(
            f"{path} has minima of {len(remainders)} molecules that the model can learn, "
            f"and at least {FEWEST} are needed{reasons}"
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
    """Minima that were read, by their numbers in the file."""

    molecules: dict[int, Molecule]
    pairs: list[Pair]
    left_out: list[Rejected]
    notes: list[str]


def _read_minima(path: Path, config: ModelConfig, level: str, charge: int | None) -> _Read:
    """Read minima, and pair those that can be learned; see `load_minima`."""
    read = _Read({}, [], [], [])
    of_level: Counter[str] = Counter()
    records = list(each_record(path, charge))
    for i, record in enumerate(tqdm(records, desc="pairing minima", unit="mol", disable=None)):
        molecule = read_record(record)
        if isinstance(molecule, Rejected):
            read.left_out.append(molecule)
            continue
        told = record.properties if isinstance(record, Record) else {}
        force = _largest_force(record) if isinstance(record, Record) else 0.0
        odd = odd_reading(molecule)
        try:
            if not (reason := _why_not(molecule, told, force, config)):
                read.pairs.extend(_pairs(molecule, i, config.training.starts))
        except ValueError as error:  # RDKit, of valences
            reason = str(error)
        if reason:
            reason = "; ".join(filter(None, (reason, odd)))
            read.left_out.append(Rejected(molecule.name, f"{path}#{i + 1}", reason))
            continue
        read.molecules[i] = molecule
        of_level[str(told.get("level", level))] += 1
        if odd:
            read.notes.append(f"{molecule.name}: {odd}")
    read.notes.extend(
        f"{n} minima say that they are of {other}, and are learned as those of {level}"
        for other, n in of_level.items()
        if find_level(other, [level]) is None
    )
    return read


def _why_not(molecule: Molecule, told: Mapping[str, Any], force: float, config: ModelConfig) -> str:
    """Say why a molecule is no minimum to learn; empty if it is one."""
    if molecule.start != "given":
        return "it has no coordinates"
    converged, verdict = told.get("converged"), told.get("verdict", "minimum")
    if converged is not None and str(converged).lower() in NO:
        return "its relaxation has not converged"
    if converged is None and verdict != "minimum":
        return f"its verdict is {verdict}, so it is no minimum of a level of theory"
    if force > LARGEST_FORCE:
        return f"a force of {force:.2f} eV/Å acts on an atom, so it is no minimum"
    return outside_method(molecule, config.network.elements, config.network.charges)


def _largest_force(record: Record) -> float:
    """Return the largest force on an atom that a frame tells, eV/Å; 0 if it tells none."""
    if record.suffix not in (".xyz", ".extxyz") or "force" not in record.text:
        return 0.0
    try:
        forces = ase.io.read(StringIO(record.text), format="extxyz").get_forces()
    except Exception:  # it has none by that name; whether it is a molecule is told elsewhere
        return 0.0
    return float(np.linalg.norm(forces, axis=1).max())


def _pairs(molecule: Molecule, index: int, levels: Sequence[StartLevel]) -> list[Pair]:
    """Pair a minimum with each level of starts; UFF stands in where MMFF94 has no parameters."""
    with rdBase.BlockLogs():
        mol = molecule.to_rdkit()
        if "uff" not in levels and not has_mmff94(mol):
            levels = ["uff" if level == "mmff94" else level for level in levels]
        return [pair(Chem.Mol(mol), index, level) for level in levels]


def _without_start(geometries: GeometrySet, config: ModelConfig) -> Iterator[str]:
    """Say how many minima the bridge does not learn from, if any."""
    basin = config.training.in_basin(geometries.start_rmsd, geometries.start_torsion)
    n, used = (len(set(places.tolist())) for places in (geometries.index, geometries.index[basin]))
    if n > used:
        yield (
            f"{n - used} of {n} minima have no start: {' and '.join(config.training.starts)} lead "
            "them elsewhere, or nowhere; they are learned from noise alone"
        )
