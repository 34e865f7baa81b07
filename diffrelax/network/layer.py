"""A message-passing layer.

The features of an atom have degrees l = 0, 1, 2 with the same number of channels. A feature tensor
has the shape (9, n_atoms, n_channels), with the components of ``0e + 1o + 2e`` in e3nn's order. A
message has fewer channels than an atom. The receiver multiplies it by all radial functions, and one
matrix mixes both. Products are computed on atoms, not on pairs (Drautz 2019; Batatia et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffrelax.network.config import NetworkConfig
from diffrelax.network.graph import Block, Graph
from diffrelax.network.sphere import DEGREES, sphere_samples


class Layer(nn.Module):
    """Gather messages, form their products on each atom, and update the features.

    Parameters
    ----------
    config : NetworkConfig
    """

    values: Tensor
    projection: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels, sent, sent_tensors = config.channels, config.sent, config.sent_tensors
        radial, coarse = config.radial, config.coarse
        tensor_radial = radial if config.fine_tensors else coarse

        def matrices(*inputs: int, outputs: int = channels) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(width, outputs, bias=False) for width in inputs)

        self.products = products = min(config.products, channels)
        self.send = nn.Linear(channels, sent, bias=False)
        self.send_tensors = matrices(channels, channels, outputs=sent_tensors)
        self.receive = matrices(radial * sent, radial * sent, tensor_radial * sent)
        self.receive_tensors = matrices(coarse * sent_tensors, coarse * sent_tensors)
        self.self_interaction = matrices(channels, channels, channels)
        self.mixing = matrices(*3 * (channels + products,))
        self.film = nn.Linear(channels, 2 * channels)
        self.gates = nn.Linear(channels, 3 * channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.ones_(self.gates.bias)
        for name, matrix in zip(("values", "projection"), sphere_samples(), strict=True):
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, x: Tensor, graph: Graph, condition: Tensor) -> Tensor:
        """Return the updated features.

        Parameters
        ----------
        x : (9, n_atoms, n_channels) tensor
        graph : Graph
        condition : (n_molecules, n_channels) tensor
        """
        a = rms_norm(self._gather(rms_norm(x).split(DEGREES), graph))
        factors = a[..., : self.products].flatten(1)
        products = self.projection @ (self.values @ factors).square()
        both = torch.cat([a, products.unflatten(1, (-1, self.products)).to(a.dtype)], dim=-1)
        updates = [mix(part) for mix, part in zip(self.mixing, both.split(DEGREES), strict=True)]
        scale, shift = self.film(condition)[graph.molecules].chunk(2, dim=-1)
        hidden = functional.silu(updates[0] * (1 + scale) + shift)
        scalars, *gates = self.gates(hidden).chunk(3, dim=-1)
        return x + torch.cat([scalars, updates[1] * gates[0], updates[2] * gates[1]])

    def _gather(self, x: tuple[Tensor, ...], graph: Graph) -> Tensor:
        own = [mix(part) for mix, part in zip(self.self_interaction, x, strict=True)]
        scalars = self.send(x[0][0])
        tensors = [send(part) for send, part in zip(self.send_tensors, x[1:], strict=True)]
        rows = torch.cat(tensors).transpose(0, 1).flatten(1)
        received = [self._receive(scalars, rows, block) for block in graph.blocks]
        return torch.cat(own) + torch.cat(received, dim=1)

    def _receive(self, scalars: Tensor, tensors: Tensor, block: Block) -> Tensor:
        """Return the messages to the atoms of a block, (9, n_atoms, n_channels)."""
        from_scalars = _rows(scalars, block.senders)
        messages = [
            receive((basis @ from_scalars).view(len(basis), size, -1)).transpose(0, 1)
            for receive, basis, size in zip(self.receive, block.basis, DEGREES, strict=True)
        ]
        sums = (block.coarse @ _rows(tensors, block.senders)).unflatten(2, (8, -1))
        parts = sums.permute(2, 0, 1, 3).flatten(2).split(DEGREES[1:])
        for degree, (receive, part) in enumerate(
            zip(self.receive_tensors, parts, strict=True), start=1
        ):
            messages[degree] = messages[degree] + receive(part)
        return torch.cat(messages)


def _rows(table: Tensor, places: Tensor) -> Tensor:
    """Look up rows, with a faster backward pass than ``table[places]``."""
    return table.index_select(0, places.flatten()).unflatten(0, places.shape)


def rms_norm(x: Tensor) -> Tensor:
    """Scale the features of each atom to unit mean square over components and channels.

    All degrees share one factor, so that the vanishing l > 0 features of a symmetric site are not
    amplified.

    Parameters
    ----------
    x : (..., 9, n_atoms, n_channels) tensor
    """
    return x * (x.square().mean(dim=(-3, -1), keepdim=True) + 1e-6).rsqrt()
