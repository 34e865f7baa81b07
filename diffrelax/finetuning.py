"""Fine-tuning: a released model goes on learning, from minima at a user's own level of theory."""

from __future__ import annotations

import copy
import filecmp
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rdkit import rdBase
from torch.nn import Embedding
from tqdm.auto import tqdm

from diffrelax.atomic import replacing
from diffrelax.data.packing import Pair, pack, pair
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.files.reading import Rejected, read_molecules
from diffrelax.levels.distances import Nearest, find_level
from diffrelax.models.domain import bond_kinds, outside_method
from diffrelax.models.release import Model, own_weights
from diffrelax.molecule import Molecule
from diffrelax.molecule.environments import count_environments, write_environments
from diffrelax.molecule.perception import constitution_key
from diffrelax.network.config import DenseNetworkConfig, NetworkConfig
from diffrelax.network.network import EquivariantNetwork
from diffrelax.training.config import ModelConfig, TrainingConfig
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.loop import check_folder

HELD_BACK = 10  # one constitution in so many is validated on
FEWEST = 10  # constitutions; with fewer there is nothing to validate on
ENVIRONMENTS = "environments.txt"


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
        What is not a molecule, or what the network cannot learn, with the reason.
    """

    train_set: GeometrySet
    validation_set: GeometrySet
    bonds: frozenset[tuple[int, int]]
    environments: Mapping[str, int]
    left_out: list[Rejected]


def begin_finetuning(
    model: Model,
    base: str,
    data: Path,
    folder: Path,
    *,
    level: str,
    steps: int,
    only_level: bool = False,
) -> tuple[ModelConfig, Minima]:
    """Write the ``config.yaml`` of a fine-tuning run, and beside it a copy of its minima.

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
        If the folder holds a run, a ``config.yaml`` or another file of the name of the data
        already, if the model generates or has no levels to learn alone, or if the minima are too
        few.
    """
    check_folder(folder, resume=False)
    if (folder / "config.yaml").exists():
        raise ValueError(
            f"{folder} has a config.yaml already: choose another folder, or train that model with "
            f"diffrelax train {folder / 'config.yaml'}"
        )
    kept = folder / data.name
    if kept.exists() and data.exists() and not filecmp.cmp(kept, data, shallow=False):
        raise ValueError(f"{kept} is another file than {data}: rename one of them")
    if model.config.generation:
        raise ValueError(f"{model.name} generates molecules: fine-tune a model that relaxes them")
    level = find_level(level, model.config.levels) or level
    network = _with_level(model.config.network, level)
    if only_level and not network.levels:
        raise ValueError(f"{model.name} is not told the level of theory: let it learn all weights")
    minima = load_minima(data, model.config, level)
    source = model.config.training
    tuned = source.base is not None and source.cooldown >= source.steps
    batch_size = source.batch_size if tuned else source.batch_size // 2
    training = source.model_copy(
        update=_of_length(steps)
        | {
            "data": data.name,
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
    folder.mkdir(parents=True, exist_ok=True)
    if data.resolve() != kept.resolve():
        with replacing(kept) as part:
            shutil.copyfile(data, part)
    with replacing(folder / "config.yaml") as part:
        part.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
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
    nearest = {level: model.nearest_level(level) for level in levels}
    places = [network.levels.index(one.level) if network.levels else 0 for one in nearest.values()]
    base = copy.deepcopy(model.denoiser)
    base.network.levels = levels
    base.network.level_embedding = Embedding.from_pretrained(network.level_embedding.weight[places])
    new = {level: one for level, one in nearest.items() if level not in model.config.levels}
    return base, new


def _with_level(
    network: NetworkConfig | DenseNetworkConfig, level: str
) -> NetworkConfig | DenseNetworkConfig:
    """Add a level of theory to those that a network tells apart."""
    if not network.levels or level in network.levels:
        return network
    return network.model_copy(update={"levels": (*network.levels, level)})


def load_minima(path: Path, config: ModelConfig, level: str | None = None) -> Minima:
    """Read minima and pair them with their relaxations at the levels of the model's starts.

    About a tenth of the constitutions is kept for validation with all stereoisomers and conformers:
    those with the sha256 of their part of the InChIKey divisible by ten, and if there is none the
    one with the least. So they stay the same where minima are added, and however ions are drawn.

    Parameters
    ----------
    path : path
    config : ModelConfig
        Of the model that is to learn them.
    level : str, optional
        Their level of theory. Default: that of the model.

    Raises
    ------
    ValueError
        If fewer than ten constitutions are left.
    """
    pairs: list[Pair] = []
    left_out: list[Rejected] = []
    molecules: dict[int, Molecule] = {}
    found = read_molecules(path)
    for i, molecule in enumerate(tqdm(found, desc="pairing minima", unit="mol", disable=None)):
        if isinstance(molecule, Rejected):
            left_out.append(molecule)
        elif molecule.start != "given":
            left_out.append(Rejected(molecule.name, f"{path}#{i + 1}", "it has no coordinates"))
        elif reason := outside_method(molecule, config.network.elements, config.network.charges):
            left_out.append(Rejected(molecule.name, f"{path}#{i + 1}", reason))
        else:
            try:
                with rdBase.BlockLogs():
                    pairs += [pair(molecule.to_rdkit(), i, s) for s in config.training.starts]
            except ValueError as error:  # RDKit, of valences
                left_out.append(Rejected(molecule.name, f"{path}#{i + 1}", str(error)))
                continue
            molecules[i] = molecule
    kinds = [constitution_key(one.smiles) for one in pairs]
    hashes = {kind: int(sha256(kind.encode()).hexdigest(), 16) for kind in kinds}
    if len(hashes) < FEWEST:
        reasons = "".join(f"; {one.name}: {one.reason}" for one in left_out[:3])
        raise ValueError(
            f"{path} has minima of {len(hashes)} molecules that the model can learn, "
            f"and at least {FEWEST} are needed{reasons}"
        )
    held = {kind for kind, number in hashes.items() if number % HELD_BACK == 0}
    held = held or {min(hashes, key=lambda kind: hashes[kind])}
    geometries = pack(pairs, (level or config.level,))
    validation = np.array([kind in held for kind in kinds])
    train_set = geometries.select(np.flatnonzero(~validation))
    trained = [molecules[i] for i in set(train_set.index.tolist())]
    return Minima(
        train_set=train_set,
        validation_set=geometries.select(np.flatnonzero(validation)),
        bonds=frozenset().union(*map(bond_kinds, trained)),
        environments=count_environments({m.smiles: m for m in trained}.values()),
        left_out=left_out,
    )
