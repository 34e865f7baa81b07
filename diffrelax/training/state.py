"""State of a training run and its file: all that is needed to resume exactly, without pickle."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import nan
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffrelax.atomic import replacing
from diffrelax.clock import NO_TIME, Time
from diffrelax.diffusion.denoiser import Denoiser
from diffrelax.errors import InputError
from diffrelax.training.learned import Learned

WEIGHTS = "model.safetensors"
RESUME = "resume.safetensors"


def going_on(folder: Path) -> str:
    """Return the command that resumes a run."""
    return shlex.join(["diffrelax", "train", str(folder / "config.yaml"), "--resume"])


@dataclass
class TrainingState:
    """State of a run after ``step`` steps.

    The order of the data and the noise depend only on seed and step, so they need no state.

    Attributes
    ----------
    run : dict
        Entries that identify the run, in plain values; the state of another run is rejected.
    model : Denoiser
    ema : Denoiser
        Moving average of the weights.
    optimizer : torch.optim.AdamW
    learned : dict of str to Learned
        What the model, including its base, has learned by the end of the run; a resumed run reads
        it from its file.
    step : int
    time : Time
        Time spent so far; the processor time is NaN for older runs that did not record it.
    sums : dict
        Losses and counts since the last row of the log.
    """

    run: dict[str, Any]
    model: Denoiser
    ema: Denoiser
    optimizer: torch.optim.AdamW
    learned: dict[str, Learned] = field(default_factory=dict)
    step: int = 0
    time: Time = NO_TIME
    sums: dict[str, float] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    def seconds(self) -> dict[str, float]:
        """Return the time spent, s, as plain values."""
        return {
            "seconds": round(self.time.wall, 1),
            "processor_seconds": round(self.time.processor, 1),
        }

    def save(self, path: Path) -> None:
        """Write the state; an existing file is replaced atomically."""
        tensors: dict[str, Tensor] = {f"ema.{n}": p for n, p in self.ema.named_parameters()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors[f"model.{name}"] = parameter
            tensors[f"exp_avg.{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
        learned = {level: one.model_dump() for level, one in self.learned.items()}
        about = {"step": self.step, **self.seconds(), "sums": self.sums, "run": self.run}
        about |= {"learned": learned}
        save_tensors(tensors, path, about)

    def load(self, path: Path) -> None:
        """Read the state that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or belongs to another run.
        """
        tensors, metadata = load_tensors(path)
        if others := _differences(metadata.get("run", {}), self.run):
            raise InputError(f"{path} is from another run: it differs in {', '.join(others)}")
        try:
            self.step = int(metadata["step"])
            processor = metadata.get("processor_seconds", nan)
            self.time = Time(float(metadata["seconds"]), float(processor))
            self.sums = dict(metadata["sums"])
            if "learned" in metadata:
                kept = metadata["learned"].items()
                self.learned = {level: Learned.model_validate(one) for level, one in kept}
            with torch.no_grad():
                for name, parameter in self.ema.named_parameters():
                    parameter.copy_(tensors[f"ema.{name}"])
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(tensors[f"model.{name}"])
                    moments = self.optimizer.state[parameter]
                    moments["step"].fill_(self.step)
                    moments["exp_avg"].copy_(tensors[f"exp_avg.{name}"])
                    moments["exp_avg_sq"].copy_(tensors[f"exp_avg_sq.{name}"])
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{path} is not the state of a run: {error}") from error


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """Write a safetensors file with JSON metadata; an existing file is replaced atomically.

    The entry ``sha256`` is added: the hash of the tensors and all other entries.
    """
    plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    whole = metadata | {"sha256": _checksum(plain, metadata)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(save(plain, {"diffrelax": json.dumps(whole)}))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a file that :func:`save_tensors` wrote, without checking its hash.

    Raises
    ------
    ValueError
        If the file is missing, truncated, or not a file of diffrelax.
    """
    with _opened(path) as file:
        return _metadata(file)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_tensors` wrote, or an older file without a checksum.

    Raises
    ------
    ValueError
        If the file is missing, truncated, damaged, or not a file of diffrelax.
    """
    with _opened(path) as file:
        metadata = _metadata(file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("sha256", "") not in ("", _checksum(tensors, metadata)):
        raise InputError(f"{path} is damaged: its checksum does not match")
    return tensors, metadata


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is missing, damaged, or not a diffrelax file: {error}") from error


def _metadata(file: Any) -> dict[str, Any]:
    return dict(json.loads((file.metadata() or {})["diffrelax"]))


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    entries = json.loads(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}))
    total = sha256(json.dumps(entries, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
