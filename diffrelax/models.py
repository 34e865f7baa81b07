"""Released models: find, verify and load them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import ValidationError

from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.entries import explain_invalid
from diffrelax.network.config import DenseNetworkConfig, NetworkConfig
from diffrelax.network.network import Theory
from diffrelax.training.config import ModelConfig, build_denoiser
from diffrelax.training.loop import WEIGHTS, check_device
from diffrelax.training.state import load_tensors

SUMS = "SHA256SUMS"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, ready to relax.

    Attributes
    ----------
    config : ModelConfig
    denoiser : Denoiser
        In evaluation mode, without gradients, on ``device``.
    sha256 : str
        Of the file of weights.
    step : int
        Training steps behind the weights.
    """

    config: ModelConfig
    denoiser: Denoiser
    sha256: str
    step: int

    @property
    def name(self) -> str:
        """Name and release, such as ``relax-qm9-1``."""
        return self.config.name

    @cached_property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    def check_level(self, level: str | None) -> str:
        """Return the level of theory of the minima to aim at; by default the model's own.

        Raises
        ------
        ValueError
            If the model has not learned it.
        """
        if level in (None, self.config.level):
            return self.config.level
        if isinstance(self.config.network, NetworkConfig):
            return self.config.network.check_level(level)
        raise ValueError(f"{self.name} knows the level {self.config.level} alone, not {level!r}")

    def theory(self, charges: Sequence[int], level: str | None = None) -> Theory | None:
        """Tell the network of molecules what it asks beside their atoms.

        Parameters
        ----------
        charges : sequence of int
            Of the molecules.
        level : str, optional
            Default: the model's own.

        Returns
        -------
        Theory or None
            None where the network asks nothing.

        Raises
        ------
        ValueError
            If the model has not learned the level.
        """
        level, network = self.check_level(level), self.config.network
        if isinstance(network, DenseNetworkConfig):
            return None
        place = network.levels.index(level) if network.levels else 0
        charge = torch.tensor(charges, device=self.device)
        return Theory(torch.full_like(charge, place), charge)


def releases() -> dict[str, Path]:
    """Return the released models that are installed: names, sorted, and their folders.

    They lie inside the installed package, or in ``models/`` beside it in a source tree, where
    ``SHA256SUMS`` names them: what is still in training there is no release.
    """
    package = Path(__file__).parent
    places = [package / "released"]
    if (package.parent / "pyproject.toml").is_file():
        places.append(package.parent / "models")
    files = [place / file for place in reversed(places) for file in _sums(place)]
    found = {file.parent.name: file.parent for file in files if file.is_file()}
    return dict(sorted(found.items(), key=lambda item: _release(item[0])))


def load_model(name: str | Path, device: str = "cpu") -> Model:
    """Load a released model, or a file of weights.

    Parameters
    ----------
    name : str or path
        ``relax-qm9-1``; ``relax-qm9`` for the newest release of that name; or the path of a
        ``.safetensors`` file that ``diffrelax train`` wrote.
    device : str
        ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    ValueError
        If there is no such model, if the file is damaged, or if the device is not there.
    """
    check_device(device)
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ValueError(f"there is no model file {path}")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        path = _find(str(name)) / WEIGHTS
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        _verify(path, sha256)
    tensors, metadata = load_tensors(path)
    try:
        config = ModelConfig.model_validate(metadata["config"])
        denoiser = build_denoiser(config)
        denoiser.load_state_dict({n: t.float() for n, t in tensors.items()})
        step = int(str(metadata["step"]))
    except ValidationError as error:
        wrong = explain_invalid(error)
        raise ValueError(f"{path} does not hold a model of this version: {wrong}") from error
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold a model of this version: {error}") from error
    return Model(config, denoiser.requires_grad_(False).eval().to(device), sha256, step)


def _find(name: str) -> Path:
    installed = releases()
    matches = [n for n in installed if name in (n, re.sub(r"-\d+$", "", n))]
    if not matches:
        known = ", ".join(installed) or "none"
        raise ValueError(f"there is no model {name!r}; installed: {known}")
    return installed[matches[-1]]


def _release(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*)-(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _verify(path: Path, sha256: str) -> None:
    expected = _sums(path.parent.parent)[f"{path.parent.name}/{path.name}"]
    if expected != sha256:
        raise ValueError(
            f"{path} is not the released file: its sha256 is {sha256}, that of the release is "
            f"{expected}. Install diffrelax again, or give the path of the file to use it as it is"
        )


def _sums(folder: Path) -> dict[str, str]:
    """Return the files that were released in a folder, and the sha256 of each."""
    sums = folder / SUMS
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return {file: sha256 for sha256, _, file in (line.partition("  ") for line in lines)}
