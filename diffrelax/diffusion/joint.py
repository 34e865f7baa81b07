"""Denoising of positions and elements together, for generation."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from diffrelax.diffusion.denoiser import Denoiser, DenoiserConfig
from diffrelax.entries import Entries
from diffrelax.network.config import NetworkConfig
from diffrelax.network.network import Context


class GenerationConfig(Entries):
    """Settings of the generation of molecules from noise.

    Attributes
    ----------
    sizes : dict of int to int
        Number of molecules in the data for each number of atoms.
    element_scale : float, Å
        Scale of the one-hot element coordinates relative to positions in Å. The smaller it is, the
        later the elements are determined (Hoogeboom et al. 2022 use 0.25).
    n_levels : int
        Number of noise levels, with one evaluation of the network each.
    settle_at : float, Å
        Noise level at which elements are chosen that satisfy all valences.
    restart_at : float, Å
        Noise level, above ``settle_at``, to which a molecule returns if there are no such elements.
    restarts : int
        Maximum number of restarts.
    """

    sizes: Annotated[dict[PositiveInt, PositiveInt], Field(min_length=1)]
    element_scale: float = Field(default=0.25, gt=0)
    n_levels: int = Field(default=200, gt=1)
    settle_at: float = Field(default=0.08, gt=0)
    restart_at: float = Field(default=0.5, gt=0)
    restarts: int = Field(default=4, ge=0)

    def levels(self, scales: DenoiserConfig) -> list[float]:
        """Return the decreasing noise levels for a denoiser, Å."""
        return np.geomspace(scales.sigma_max, scales.sigma_min, self.n_levels).tolist()


class JointDenoiser(Denoiser):
    """Estimate positions and elements from noisy ones.

    An atom has one coordinate per element: ``element_scale`` for its own element and 0 for the
    others. They are given the same Gaussian noise as the positions. The noisy coordinates define a
    likelihood of each element. The network adds a log prior from the surroundings of the atom,
    which matters less at low noise, so that the probabilities are a posterior (Bayes).
    """

    def __init__(
        self,
        network: NetworkConfig,
        config: DenoiserConfig,
        generation: GenerationConfig,
    ) -> None:
        super().__init__(network, config)
        self.element_scale = generation.element_scale
        self.elements = nn.Linear(network.channels, len(network.elements))
        nn.init.zeros_(self.elements.weight)
        nn.init.zeros_(self.elements.bias)

    def forward(
        self,
        numbers: Tensor,
        positions: Tensor,
        sigma: Tensor,
        bridge: Tensor,
        context: Context | None = None,
    ) -> Tensor:
        """Estimate the minimum for known elements; bridge and context are ignored.

        Parameters and result are those of :meth:`Denoiser.forward`.
        """
        return self.joint(positions, self.encode(numbers), sigma, numbers > 0)[0]

    def begin_as(self, base: Denoiser) -> None:
        """Copy the weights of a denoiser of the same shape and with the same elements."""
        self.load_state_dict(base.state_dict())

    def joint(
        self, positions: Tensor, species: Tensor, sigma: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Estimate positions and elements.

        Parameters
        ----------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        species : (n_molecules, n_atoms, n_elements) tensor, Å
            Noisy element coordinates, in the order of the network's configuration.
        sigma : (n_molecules,) tensor, Å
        real : (n_molecules, n_atoms) bool tensor
            True where there is an atom.

        Returns
        -------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        logits : (n_molecules, n_atoms, n_elements) tensor
            Log probabilities of the elements, up to a constant.
        """
        variance = sigma.square()[:, None, None]
        inputs = species / (self.element_scale**2 + variance).sqrt()
        scalars = inputs @ self.network.embedding.weight
        noise = torch.zeros_like(sigma, dtype=torch.bool)
        denoised, features = self._denoise(scalars, positions, sigma, noise, real)
        surroundings = self.elements(features[:, 0]).float()
        return denoised, self.element_scale * species / variance + surroundings

    def encode(self, numbers: Tensor) -> Tensor:
        """Return the coordinates of known elements, (n_molecules, n_atoms, n_elements), Å."""
        places = self.network.lookup[numbers]
        one_hot = nn.functional.one_hot(places, self.elements.out_features)
        return self.element_scale * one_hot * (numbers > 0)[..., None]
