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
    """How molecules come out of noise.

    Attributes
    ----------
    sizes : dict of int to int
        How many molecules of each number of atoms the data hold.
    element_scale : float, Å
        Length that stands for the presence of an element, beside positions in Å: the smaller, the
        later the elements settle (Hoogeboom et al. 2022 take 0.25).
    n_levels : int
        Noise levels from the highest to the lowest, each one evaluation of the network.
    settle_at : float, Å
        Level at which elements are chosen that satisfy all valences.
    restart_at : float, Å
        Level to which a molecule goes back for which there are none; above ``settle_at``.
    restarts : int
        How often it may.
    """

    sizes: Annotated[dict[PositiveInt, PositiveInt], Field(min_length=1)]
    element_scale: float = Field(default=0.25, gt=0)
    n_levels: int = Field(default=200, gt=1)
    settle_at: float = Field(default=0.08, gt=0)
    restart_at: float = Field(default=0.5, gt=0)
    restarts: int = Field(default=4, ge=0)

    def levels(self, scales: DenoiserConfig) -> list[float]:
        """List the falling noise levels of a denoiser, Å."""
        return np.geomspace(scales.sigma_max, scales.sigma_min, self.n_levels).tolist()


class JointDenoiser(Denoiser):
    """Estimate positions and elements from noisy ones.

    The elements of an atom are one coordinate each, ``element_scale`` for the element that it is
    and 0 for the others, and take the same Gaussian noise as the positions. Their noise alone
    gives each element a likelihood; the network adds the logarithm of what the surroundings say,
    so its share vanishes as the noise does, and the probabilities are a posterior (Bayes).
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
        """Estimate the minimum of atoms whose elements are known; bridge and context mean nothing.

        Parameters and result are those of :meth:`Denoiser.forward`.
        """
        return self.joint(positions, self.encode(numbers), sigma, numbers > 0)[0]

    def begin_as(self, base: Denoiser) -> None:
        """Take the weights of a denoiser of the same shape; it knows the same elements."""
        self.load_state_dict(base.state_dict())

    def joint(
        self, positions: Tensor, species: Tensor, sigma: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Estimate positions and elements.

        Parameters
        ----------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        species : (n_molecules, n_atoms, n_elements) tensor, Å
            Noisy coordinates of the elements, in the order of the network's configuration.
        sigma : (n_molecules,) tensor, Å
        real : (n_molecules, n_atoms) bool tensor
            Where there is an atom.

        Returns
        -------
        positions : (n_molecules, n_atoms, 3) tensor, Å
        logits : (n_molecules, n_atoms, n_elements) tensor
            Logarithms of the probabilities of the elements, up to a constant.
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
