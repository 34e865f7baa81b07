"""Released models: find, verify and load them."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import torch
from pydantic import ValidationError

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.entries import explain_invalid
from diffrelax.errors import InputError
from diffrelax.levels.distances import Nearest, nearest_level
from diffrelax.levels.level import Level
from diffrelax.molecule.environments import bonds_in, read_environments
from diffrelax.network.network import Context
from diffrelax.training.config import ModelConfig, build_denoiser
from diffrelax.training.devices import check_device
from diffrelax.training.references import TOLERANCE, Reference, deviation
from diffrelax.training.state import RESUME, WEIGHTS, going_on, load_tensors, read_metadata

DEFAULT = "default"
SUMS = "SHA256SUMS"
QM9_ENVIRONMENTS = "qm9-environments.txt"
REFERENCES = "references.json"
GROUP = "diffrelax.models"  # of entry points, by which other packages add releases


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model, ready to relax.

    Attributes
    ----------
    config : ModelConfig
    denoiser : Denoiser
        In evaluation mode, without gradients, on ``device``.
    sha256 : str
        Checksum of the file of weights.
    step : int
        Number of training steps.
    environments : mapping of str to int, optional
        Environments of atoms (see `diffrelax.molecule.environments`), each with its number of
        training molecules. None if they are not known.
    references : tuple of Reference
        Small molecules, and the geometries to which the network relaxed them when it was saved.
    """

    config: ModelConfig
    denoiser: Denoiser
    sha256: str
    step: int
    environments: Mapping[str, int] | None = None
    references: tuple[Reference, ...] = ()

    def __repr__(self) -> str:
        return f"Model({self.name!r}, step {self.step}, sha256 {self.sha256[:12]}…)"

    @property
    def name(self) -> str:
        """Name and release, such as ``relax-qm9-1``."""
        return self.config.name

    @cached_property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.denoiser.parameters()).device

    @cached_property
    def bonds(self) -> frozenset[tuple[int, int]]:
        """Pairs of atomic numbers, the smaller first, that are bonded in the training data."""
        return frozenset(self.config.bonds) | bonds_in(self.environments or ())

    def nearest_level(self, level: str | Level | None = None) -> Nearest:
        """Return the learned level whose minima are nearest to those of another, and what differs.

        Of equally near levels, the model's own is preferred.

        Parameters
        ----------
        level : str or Level, optional
            Any level of theory, such as ``pbe/def2-svp``. Default: the model's own.

        Raises
        ------
        InputError
            If a string names no method, or has an unknown name and is not a learned level.
        """
        own = self.config.level
        own_first = sorted(self.config.levels, key=lambda one: one != own)
        return nearest_level(own if level is None else level, own_first)

    def check_references(self) -> float:
        """Relax the reference molecules again.

        Returns
        -------
        float, Å
            Largest distance of an atom from its position when the weights were saved.

        Raises
        ------
        ValueError
            If the distance is too large, so that the weights are damaged.
        """
        found = deviation(self.denoiser, self.references, self.config.relaxation)
        if not found < TOLERANCE:
            raise InputError(
                f"{self.name} is damaged: results for its reference molecules differ by "
                f"{found:.3g} Å; copy it again"
            )
        return found

    def context(self, charges: Sequence[int], level: str | None = None) -> Context:
        """Return the inputs of the network besides the atoms.

        Parameters
        ----------
        charges : sequence of int
            Total charge of each molecule.
        level : str, optional
            Level of theory that the model has learned. Default: its own.
        """
        network = self.config.network
        place = network.levels.index(level or self.config.level) if network.levels else 0
        charge = torch.tensor(charges, device=self.device)
        return Context(torch.full_like(charge, place), charge, torch.zeros_like(charge))


def releases() -> dict[str, Path]:
    """Return the installed released models: their names, sorted, and folders.

    They are in the installed package, in ``models/`` of a source tree, or in a package with an
    entry point of the group ``diffrelax.models``. Only folders that are listed in the file
    ``SHA256SUMS`` there are releases.
    """
    return _releases_in([*_places(), *_other_places()])


def qm9_environments() -> Mapping[str, int]:
    """Return the environments of the training molecules of QM9.

    Raises
    ------
    ValueError
        If their file is missing or differs from the released one.
    """
    for place in _places():
        path = place / QM9_ENVIRONMENTS
        if path.is_file():
            _verify(path, hashlib.sha256(path.read_bytes()).hexdigest(), QM9_ENVIRONMENTS)
            return read_environments(path)
    raise InputError(f"{QM9_ENVIRONMENTS} is missing: reinstall diffrelax")


def load_model(name: str | Path = DEFAULT, device: str = "cpu") -> Model:
    """Load a released model, or one of your own.

    Parameters
    ----------
    name : str or path
        ``relax-qm9-1``, or ``relax-qm9`` for the newest release of that name; ``default`` for the
        release of diffrelax with the most elements, then levels of theory, then the newest; a
        folder that ``diffrelax train`` wrote; or the path of a ``.safetensors`` file. Write ``./``
        before a folder that has the name of a release.
    device : str
        ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    ValueError
        If there is no such model, the file is damaged, or the device is not available.

    Warns
    -----
    UserWarning
        If a file of your own has no checksum; its results then have no error bounds.
    """
    check_device(device)
    own = own_weights(name)
    if own and not own.is_file():
        if own.name == WEIGHTS and (own.parent / RESUME).is_file():
            raise InputError(
                f"{own.parent} has no model yet: finish its training with {going_on(own.parent)}"
            )
        raise InputError(f"there is no model file {own}")
    path = own or _find(str(name)) / WEIGHTS
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if not own:
        _verify(path, sha256, f"{path.parent.name}/{WEIGHTS}")
    tensors, metadata = load_tensors(path)
    try:
        config = ModelConfig.model_validate(metadata["config"])
        denoiser = build_denoiser(config)
        denoiser.load_state_dict({n: t.float() for n, t in tensors.items()})
        step = int(str(metadata["step"]))
        references = tuple(map(Reference.model_validate, metadata.get("references", ())))
    except ValidationError as error:
        wrong = explain_invalid(error)
        raise InputError(f"{path} is not a model of this version: {wrong}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is not a model of this version: {error}") from error
    environments = metadata.get("environments")
    if not isinstance(environments, dict | None):
        raise InputError(
            f"{path} is not a model of this version: its environments are not a mapping"
        )
    if environments is None and config.training.data == "qm9":
        environments = qm9_environments()
    denoiser = denoiser.requires_grad_(False).eval().to(device)
    model = Model(config, denoiser, sha256, step, environments, references)
    if not own:
        return replace(model, references=references or _references(path.parents[1], config.name))
    if references:
        model.check_references()
    return model if metadata.get("sha256") else _without_checksum(model, path)


def own_weights(name: str | Path, home: Path = Path()) -> Path | None:
    """Return the file of weights at a path relative to ``home``; None for a release."""
    path = home / name
    if path.is_dir() and (isinstance(name, Path) or not is_release(name)):
        return path / WEIGHTS
    return path if path.suffix == ".safetensors" else None


def is_release(name: str) -> bool:
    """Tell whether a name refers to a release."""
    return name == DEFAULT or bool(_matches(name))


def _find(name: str) -> Path:
    if name == DEFAULT and (own := _releases_in(_places())):
        return max(own.values(), key=_coverage)
    if matches := _matches(name):
        return matches[-1]
    known = ", ".join(releases()) or "none"
    raise InputError(f"there is no model {name!r}; installed: {known}")


def _coverage(folder: Path) -> tuple[int, int, int]:
    """Return the number of elements, number of levels of theory, and number of a release.

    Zeros if it generates molecules or is damaged.
    """
    try:
        config = ModelConfig.model_validate(read_metadata(folder / WEIGHTS)["config"])
    except (ValueError, KeyError):
        return 0, 0, 0
    if config.generation:
        return 0, 0, 0
    return len(config.elements), len(config.levels), _release(folder.name)[1]


def _matches(name: str) -> list[Path]:
    """Return the folders of the releases that a name refers to, the newest last."""
    return [folder for n, folder in releases().items() if name in (n, re.sub(r"-\d+$", "", n))]


def _release(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*)-(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _verify(path: Path, sha256: str, file: str) -> None:
    expected = _sums(path.parents[file.count("/")]).get(file)
    if expected != sha256:
        raise InputError(
            f"{path} is not the released file: its sha256 is {sha256}, expected {expected}. "
            "Reinstall diffrelax"
        )


def _without_checksum(model: Model, path: Path) -> Model:
    """Return a model from a file without checksum; without error bounds unless it is released."""
    known = {file: sha for place in _places() for file, sha in _sums(place).items()}
    if model.sha256 in known.values():
        return model
    if model.name in {file.partition("/")[0] for file in known}:
        raise InputError(
            f"{path} is damaged: its name is {model.name}, but its sha256, {model.sha256}, "
            "matches no release: copy it again"
        )
    warnings.warn(
        f"{path} has no checksum and may be damaged: its results have no error bounds",
        stacklevel=3,
    )
    return replace(model, config=model.config.model_copy(update={"calibrations": {}}))


def _references(folder: Path, name: str) -> tuple[Reference, ...]:
    """Return the reference molecules of a release whose weights carry none."""
    path = folder / REFERENCES
    if not path.is_file():
        return ()
    text = path.read_bytes()
    _verify(path, hashlib.sha256(text).hexdigest(), REFERENCES)
    return tuple(map(Reference.model_validate, json.loads(text).get(name, ())))


def _places() -> list[Path]:
    """Return the folders that may hold releases: in the package, then in a source tree."""
    package = Path(__file__).parents[1]
    source = package.parent
    return [package / "released", *([source / "models"] * (source / "pyproject.toml").is_file())]


def _other_places() -> list[Path]:
    """Return the folders of other packages that have releases."""
    found = (find_spec(entry.value) for entry in entry_points(group=GROUP))
    return [Path(spec.origin).parent for spec in found if spec and spec.origin]


def _releases_in(places: Sequence[Path]) -> dict[str, Path]:
    """Return the releases in folders; of two with the same name, that of the first folder."""
    files = [place / file for place in reversed(places) for file in _sums(place)]
    weights = [file for file in files if file.name == WEIGHTS and file.is_file()]
    found = {file.parent.name: file.parent for file in weights}
    return dict(sorted(found.items(), key=lambda item: _release(item[0])))


def _sums(folder: Path) -> dict[str, str]:
    """Return the released files of a folder, each with its sha256."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    return {file: sha256 for sha256, _, file in (line.partition("  ") for line in lines)}
