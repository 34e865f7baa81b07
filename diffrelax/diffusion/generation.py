"""Generation on tensors: positions and elements from noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffrelax.diffusion.joint import JointDenoiser
from diffrelax.diffusion.samplers import sample_stochastic
from diffrelax.network.network import centre

# (noise level in Å, noisy positions, estimated positions, probabilities of the elements)
Observer = Callable[[float, Tensor, Tensor, Tensor], None]


@torch.no_grad()
def generate_positions(
    denoiser: JointDenoiser,
    sizes: Tensor,
    sigmas: list[float],
    generator: torch.Generator,
    observe: Observer | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw molecules by the reverse diffusion.

    Parameters
    ----------
    denoiser : JointDenoiser
    sizes : (n_molecules,) int tensor
        Numbers of atoms.
    sigmas : list of float, Å
        Falling noise levels; at the first, noise hides the molecules.
    generator : torch.Generator
        On the processor, so that a seed gives the same molecules on every device.
    observe : callable, optional
        Called at each level as ``observe(sigma, positions, estimate, probabilities)``.

    Returns
    -------
    numbers : (n_molecules, n_atoms) int tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) tensor, Å
    """
    device = next(denoiser.parameters()).device
    real = (torch.arange(int(sizes.max()))[None] < sizes[:, None]).to(device)
    elements = torch.tensor(denoiser.network.elements, device=device)
    width = 3 + len(elements)

    def noise(state: Tensor) -> Tensor:
        drawn = torch.randn(state.shape, generator=generator).to(device)
        return torch.cat([centre(drawn[..., :3], real), drawn[..., 3:] * real[..., None]], -1)

    def denoise(state: Tensor, sigma: float) -> Tensor:
        positions, species = state.split([3, width - 3], dim=-1)
        alike = state.new_full((len(state),), sigma)
        estimate, logits = denoiser.joint(positions, species, alike, real)
        probabilities = logits.softmax(-1) * real[..., None]
        if observe:
            observe(sigma, positions, estimate, probabilities)
        return torch.cat([estimate, denoiser.element_scale * probabilities], -1)

    highest = (sigmas[0] ** 2 + denoiser.config.sigma_data**2) ** 0.5
    start = highest * noise(torch.zeros(*real.shape, width, device=device))
    end = sample_stochastic(denoise, start, sigmas, noise)
    return elements[end[..., 3:].argmax(-1)] * real, end[..., :3]


def draw_noise(
    denoiser: JointDenoiser, sizes: Tensor, sigmas: list[float], generator: torch.Generator
) -> None:
    """Draw from the generator what `generate_positions` would, to go on behind it."""
    shape = len(sizes), int(sizes.max()), 3 + len(denoiser.network.elements)
    for _ in sigmas:
        torch.randn(shape, generator=generator)
