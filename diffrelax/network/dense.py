"""The network of the first releases, whose cost is that of all pairs of atoms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffrelax.network.config import DenseNetworkConfig
from diffrelax.network.dense_layer import DenseLayer
from diffrelax.network.dense_pairs import PairBasis
from diffrelax.network.layer import rms_norm
from diffrelax.network.network import Context, Network


class DenseNetwork(Network):
    """A network that knows neutral molecules at one level of theory, which it pays no heed to.

    Parameters
    ----------
    config : DenseNetworkConfig
    condition : int
        Length of the condition vector of a molecule.
    """

    def __init__(self, config: DenseNetworkConfig, condition: int) -> None:
        super().__init__(config.elements, config.channels)
        self.basis = PairBasis(config.radial, config.coarse, config.cutoff)
        self.condition = nn.Sequential(
            nn.Linear(condition, config.channels),
            nn.SiLU(),
            nn.Linear(config.channels, config.channels),
            nn.SiLU(),
        )
        self.layers = nn.ModuleList(
            DenseLayer(config.channels, config.radial, config.coarse) for _ in range(config.layers)
        )
        self.readout = nn.Linear(config.channels, 1, bias=False)
        nn.init.zeros_(self.readout.weight)

    def compile_parts(self) -> None:
        """Have the basis and the layers compiled at their first use, for molecules of any size."""
        self.basis.compile(dynamic=True)
        super().compile_parts()

    def features(
        self,
        scalars: Tensor,
        positions: Tensor,
        condition: Tensor,
        real: Tensor,
        context: Context | None = None,
    ) -> Tensor:
        """Compute the features of the atoms after the last layer, see `Network`."""
        basis = self.basis(positions, real)
        if torch.is_autocast_enabled(device := positions.device.type):
            half = torch.get_autocast_dtype(device)  # once, not anew in each layer
            basis = tuple(block.to(half) for block in basis)
        scalars = scalars * real[..., None]
        x = torch.cat([scalars[:, None], scalars.new_zeros(len(real), 8, *scalars.shape[1:])], 1)
        conditions = self.condition(condition)
        for layer in self.layers:
            x = layer(x, basis, conditions)
        return rms_norm(x)
