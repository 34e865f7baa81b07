"""Start of a training run: its configuration, base model and coverage."""

from __future__ import annotations

import copy
import filecmp
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from torch.nn import Embedding

from diffrelax.atomic import replacing, write_text
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.errors import InputError
from diffrelax.files import check_charge
from diffrelax.finetuning.minima import Minima, load_minima
from diffrelax.levels.distances import Nearest, find_level
from diffrelax.levels.level import Level
from diffrelax.models.release import Model, is_release, own_weights
from diffrelax.molecule.environments import write_environments
from diffrelax.network.config import NetworkConfig
from diffrelax.training.config import ModelConfig, TrainingConfig
from diffrelax.training.geometries import GeometrySet
from diffrelax.training.loop import check_folder, locked

ENVIRONMENTS = "environments.txt"


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
    """Write the ``config.yaml`` of a fine-tuning run, and copies of its data.

    Network, noise levels and schedule are those of the model. The initial learning rate is a
    quarter and the batch size half of those in its training; for a model that was fine-tuned
    itself, both are kept. The learning rate decreases to zero.

    Parameters
    ----------
    model : Model
        Model to start from.
    base : str
        Name or path of that model.
    data : path
        Minima, in a format with coordinates that `diffrelax.read_molecules` reads.
    folder : path
        Folder of the new model; its name is that of the model.
    level : str
        Level of theory of the minima; it may be one that the model has learned.
    steps : int
        Number of training steps.
    charge : int, optional
        Charge of geometries without one. Default: 0.
    only_level : bool
        Train only the parameters of this level: other levels keep their predictions, error bounds
        and coverage.

    Returns
    -------
    ModelConfig
        Configuration in the ``config.yaml``.
    Minima

    Raises
    ------
    ValueError
        If the folder has the name of a release, is used by another run, or has files that would be
        overwritten; if the model is a generating one or has no levels to train alone; if the level
        has no name; or if there are too few minima.
    """
    check_charge(charge, [data])
    if not level.strip():
        raise InputError("the level of theory of the minima has no name: give one")
    if is_release(name := folder.resolve().name):
        raise InputError(f"{name} is the name of a release: choose another folder")
    if model.config.generation:
        raise InputError(f"{model.name} generates molecules: fine-tune a model that relaxes them")
    if only_level and not model.config.network.levels:
        raise InputError(f"{model.name} has a single level of theory: train all weights")
    _check_new(folder, data)
    with locked(folder):
        _check_new(folder, data)  # another run may have begun there
        level = find_level(level, model.config.levels) or level
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
                "network": _with_level(model.config.network, level),
                "training": TrainingConfig.model_validate(training.model_dump()),
            }
        )
        entries = (
            _other_bounds(config) if only_level else covered(config, minima.train_set, minima.bonds)
        )
        config = config.model_copy(update=entries)
        kept = folder / data.name
        if data.resolve() != kept.resolve():
            with replacing(kept) as part:
                shutil.copyfile(data, part)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_text(folder / "config.yaml", text)
        write_known(model, minima.environments, training, folder)
        return config, minima


def _check_new(folder: Path, data: Path) -> None:
    """Refuse a folder with files that would be overwritten or mistaken for those of the run."""
    check_folder(folder, resume=False)
    if (folder / "config.yaml").exists():
        raise InputError(
            f"{folder} already has a config.yaml: choose another folder, or continue that "
            f"model with diffrelax train {folder / 'config.yaml'}"
        )
    if (folder / ENVIRONMENTS).exists():
        raise InputError(f"{folder / ENVIRONMENTS} would be overwritten: choose another folder")
    kept = folder / data.name
    if kept.exists() and data.exists() and not filecmp.cmp(kept, data, shallow=False):
        raise InputError(f"{kept} is another file than {data}: rename one of them")


def _of_length(steps: int) -> dict[str, Any]:
    """Return the entries of a run of this length with a decreasing learning rate."""
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
    """Return the calibrations that stay valid if only the model's own level is trained."""
    return {"calibrations": {k: v for k, v in config.calibrations.items() if k != config.level}}


def covered(
    config: ModelConfig, train_set: GeometrySet, bonds: Iterable[tuple[int, int]] = ()
) -> dict[str, Any]:
    """Return the configuration entries that describe the coverage of a model trained on a set.

    The coverage of the base model is included.

    Parameters
    ----------
    config : ModelConfig
    train_set : GeometrySet
    bonds : iterable of two int each
        Pairs of bonded atomic numbers, in addition to those in the environments.
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
    """Write the atomic environments that a new run will know.

    These are the environments of its base and, if all weights are trained, of its minima. For
    shared environments, the larger number is used, since both may have the same molecules.
    """
    known = Counter(base.environments if base else None)
    if training.learn == "all":
        known |= Counter(minima)
    write_environments(known, folder / ENVIRONMENTS)


def prepare_base(model: Model, levels: tuple[str, ...]) -> tuple[Denoiser, dict[str, Nearest]]:
    """Initialise new levels of theory of a model as copies of the nearest learned ones.

    Parameters
    ----------
    model : Model
    levels : tuple of str
        Levels of the new network.

    Returns
    -------
    Denoiser
        Initial network of a training run.
    dict of str to Nearest
        Nearest learned level of each new level.
    """
    network = model.denoiser.network
    if not levels:
        return model.denoiser, {}
    learned = model.config.levels
    nearest = {level: model.nearest_level(Level.parse(level, strict=False)) for level in levels}
    places = [network.levels.index(one.level) if network.levels else 0 for one in nearest.values()]
    base = copy.deepcopy(model.denoiser)
    base.network.levels = levels
    base.network.level_embedding = Embedding.from_pretrained(network.level_embedding.weight[places])
    new = {level: one for level, one in nearest.items() if level not in learned}
    return base, new


def _with_level(network: NetworkConfig, level: str) -> NetworkConfig:
    """Add a level of theory to a network."""
    if not network.levels or level in network.levels:
        return network
    return network.model_copy(update={"levels": (*network.levels, level)})
