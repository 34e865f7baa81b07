"""The denoiser: a preconditioned network, conditioned on the noise level."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn

from diffrelax.entries import Entries
from diffrelax.errors import InputError
from diffrelax.network.config import NetworkConfig
from diffrelax.network.network import Context, EquivariantNetwork, centre

NOISE_FEATURES = 15


class DenoiserConfig(Entries):
    """Scales of a :class:`Denoiser`.

    Attributes
    ----------
    sigma_min, sigma_max : float, Å
        Range of the noise levels (standard deviation of each coordinate).
    sigma_data : float, Å
        Standard deviation of the coordinates of the data.
    sigma_bridge : float, Å
        Standard deviation, for each coordinate, of the displacement from a minimum to its
        force-field geometry: the noise level at the far end of the bridge.
    sigma_starts : dict of str to float, Å
        The same for other starts of the network, which are closer or further than force fields.
    """

    sigma_min: float = Field(default=0.004, gt=0, allow_inf_nan=False)
    sigma_max: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    sigma_data: float = Field(default=1.5, gt=0, allow_inf_nan=False)
    sigma_bridge: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    sigma_starts: dict[str, PositiveFloat] = Field(
        default_factory=dict, exclude_if=lambda known: not known
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise InputError("sigma_min must be smaller than sigma_max")
        return self


class Denoiser(nn.Module):
    """Estimate the minimum from a displaced geometry (Karras et al. 2022, eq. 7).

    There are two kinds of displacement: Gaussian noise, labelled by its standard deviation, and
    the bridge, a fraction of the displacement of a force-field geometry, labelled by that fraction
    of the typical displacement over all molecules.

    With c_skip → 1 and c_out → σ for σ much smaller than σ_data, the network predicts the
    displacement in units of its standard deviation. Its inputs are positions in Å at low noise,
    and are scaled down to the size of a molecule at high noise.
    """

    noise_levels: Tensor
    sigma_starts: Tensor

    def __init__(self, network: NetworkConfig, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.network = EquivariantNetwork(network, NOISE_FEATURES + 1)
        ends = (math.log(config.sigma_min / 2), math.log(config.sigma_max * 2))
        self.register_buffer(
            "noise_levels", torch.linspace(*ends, NOISE_FEATURES), persistent=False
        )
        scales = [config.sigma_starts.get(name, config.sigma_bridge) for name in network.starts]
        self.register_buffer("sigma_starts", torch.tensor(scales), persistent=False)

    def forward(
        self,
        numbers: Tensor,
        positions: Tensor,
        sigma: Tensor,
        bridge: Tensor,
        context: Context | None = None,
    ) -> Tensor:
        """Estimate the minimum.

        Parameters
        ----------
        numbers : (n_molecules, n_atoms) int tensor
            Atomic numbers, 0 where there is no atom.
        positions : (n_molecules, n_atoms, 3) tensor, Å
        sigma : (n_molecules,) tensor, Å
            Label of the displacement: its standard deviation or typical size per coordinate.
        bridge : (n_molecules,) bool tensor
            True if the displacement is that of a force field, false if it is noise.
        context : Context, optional
            Default: neutral molecules at the only level of theory.

        Returns
        -------
        (n_molecules, n_atoms, 3) tensor, Å
            With the same centre as ``positions``.
        """
        real = numbers > 0
        scalars = self.network.embedding(self.network.lookup[numbers])
        return self._denoise(scalars, positions, sigma, bridge, real, context)[0]

    def known_start(self, start: Tensor) -> Tensor:
        """Return indices of starts, with 0 in place of those that the network lacks."""
        return torch.where(start < len(self.sigma_starts), start, 0)

    def begin_as(self, base: Denoiser) -> None:
        """Copy the weights of a denoiser of the same shape, whose network may know less.

        Raises
        ------
        RuntimeError
            If the base has another shape.
        """
        self.network.begin_as(base.network)

    def _denoise(
        self,
        scalars: Tensor,
        positions: Tensor,
        sigma: Tensor,
        bridge: Tensor,
        real: Tensor,
        context: Context | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the estimated minimum and the features of the network."""
        centred = centre(positions, real)
        scale = sigma[:, None, None]
        ratio = (scale / self.config.sigma_data).square()
        condition = torch.cat([self._noise_features(sigma), bridge[:, None].to(sigma.dtype)], 1)
        seen = centred / (1 + ratio).sqrt()
        if context:
            context = context._replace(start=self.known_start(context.start))
        features = self.network.features(scalars, seen, condition, real, context)
        vectors = self.network.vectors(features, real).float()
        denoised = centred / (1 + ratio) + scale / (1 + ratio).sqrt() * vectors
        return denoised + (positions - centred) * real[..., None], features

    def _noise_features(self, sigma: Tensor) -> Tensor:
        width = self.noise_levels[1] - self.noise_levels[0]
        return torch.exp(-0.5 * ((sigma.log()[:, None] - self.noise_levels) / width) ** 2)
