"""The denoiser of a model as a function of the geometries of one molecule."""

from __future__ import annotations

import numpy as np
import torch

from diffrelax.errors import InputError
from diffrelax.models.batches import batch_size
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule
from diffrelax.sampling.boltzmann.chains import centred


class Guide:
    """The estimates of a model at one noise level.

    Parameters
    ----------
    model : Model
    molecule : Molecule
    sigma : float, Å

    Attributes
    ----------
    n_calls : int
        Geometries that the network has been asked about.

    Raises
    ------
    ValueError
        If the model does not know the noise level.
    """

    def __init__(self, model: Model, molecule: Molecule, sigma: float) -> None:
        low, high = model.config.denoiser.sigma_min, model.config.denoiser.sigma_max
        if not low <= sigma <= high:
            raise InputError(
                f"noise level {sigma:.4f} Å: the model {model.name} supports {low} to {high} Å"
            )
        self._model = model
        self._numbers = torch.tensor(molecule.numbers, device=model.device)
        self._charge = molecule.charge
        self._size = batch_size(molecule.n_atoms)
        self.sigma = sigma
        self.n_calls = 0

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Estimate the minima of geometries, (n, n_atoms, 3), Å; centred."""
        self.n_calls += len(positions)
        batches = torch.tensor(positions, dtype=torch.float32).split(self._size)
        return centred(np.concatenate([self._estimate(batch) for batch in batches]))

    @torch.no_grad()
    def _estimate(self, batch: torch.Tensor) -> np.ndarray:
        batch = batch.to(self._model.device)
        sigmas = batch.new_full((len(batch),), self.sigma)
        noise = torch.zeros_like(sigmas, dtype=torch.bool)
        numbers = self._numbers.expand(len(batch), -1)
        context = self._model.context([self._charge] * len(batch))
        return self._model.denoiser(numbers, batch, sigmas, noise, context).double().cpu().numpy()
