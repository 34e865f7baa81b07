"""The state of a training run, and its file: all that an exact resume needs, and no code."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffrelax.diffusion.denoiser import Denoiser


@dataclass
class TrainingState:
    """A run after ``step`` steps.

    The order of the data and the noise depend on seed and step alone, so they need no state.

    Attributes
    ----------
    model : Denoiser
    ema : Denoiser
        The moving average of the weights.
    optimizer : torch.optim.AdamW
    step : int
    seconds : float
        Wall time spent so far.
    """

    model: Denoiser
    ema: Denoiser
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the state; a file there is replaced in one step."""
        tensors: dict[str, Tensor] = {f"ema.{n}": p for n, p in self.ema.named_parameters()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors[f"model.{name}"] = parameter
            tensors[f"exp_avg.{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
        save_tensors(tensors, path, {"step": self.step, "seconds": self.seconds})

    def load(self, path: Path) -> None:
        """Read the state that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or belongs to a network of another shape.
        """
        tensors, metadata = load_tensors(path)
        try:
            self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
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
            raise ValueError(f"{path} does not fit this configuration: {error}") from error


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """Write a safetensors file with a JSON object in its metadata; replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
        save_file(plain, temporary, {"diffrelax": json.dumps(metadata)})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`save_tensors` wrote.

    Raises
    ------
    ValueError
        If the file is missing, truncated, or not of this kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["diffrelax"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is missing, damaged, or not a diffrelax file: {error}") from error
