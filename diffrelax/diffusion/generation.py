"""Generation of molecules (positions and elements) from noise, on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from diffrelax.diffusion.joint import GenerationConfig, JointDenoiser
from diffrelax.diffusion.samplers import sample_stochastic
from diffrelax.network.network import centre

# (noise level in Å, indices of molecules, noisy and estimated positions, element probabilities)
Observer = Callable[[float, Tensor, Tensor, Tensor, Tensor], None]
# (elements, their log probabilities for each atom, positions in Å) -> atomic numbers
Settle = Callable[[Sequence[int], np.ndarray, np.ndarray], np.ndarray | None]
# (atomic numbers, positions in Å) -> positions in Å, for a batch
Relax = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def generate_positions(
    denoiser: JointDenoiser,
    sizes: Tensor,
    settings: GenerationConfig,
    generator: torch.Generator,
    *,
    settle: Settle | None = None,
    relax: Relax | None = None,
    observe: Observer | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample molecules by reverse diffusion.

    Parameters
    ----------
    denoiser : JointDenoiser
    sizes : (n_molecules,) int tensor
        Number of atoms of each molecule.
    settings : GenerationConfig
    generator : torch.Generator
        On the CPU, so that a seed gives the same molecules on every device.
    settle : callable, optional
        Chooses the final elements of a molecule at the level ``settle_at``. If it returns None, the
        molecule returns to the level ``restart_at``. Default: the elements that are most probable
        at the end.
    relax : callable, optional
        Relaxes the minima that are estimated at the level ``settle_at``; replaces the levels below.
    observe : callable, optional
        Called at each level as ``observe(sigma, which, positions, estimate, probabilities)``.

    Returns
    -------
    numbers : (n_molecules, n_atoms) int tensor
        Atomic numbers, 0 where there is no atom.
    positions : (n_molecules, n_atoms, 3) tensor, Å
    """
    chain = _Chain(denoiser, sizes, generator, observe)
    levels = settings.levels(denoiser.config)
    high, low = split(levels, settings.settle_at)
    state = chain.descend(chain.begin(levels[0]), chain.all, high, low[0])
    if settle:
        again = split(high, settings.restart_at)[1] or high[-1:]
        left = chain.settle(state, chain.all, low[0], settle)
        for _ in range(settings.restarts if again else 0):
            if len(left):
                noisy = chain.rise(state[left], left, low[0], again[0])
                state[left] = chain.descend(noisy, left, again, low[0])
                left = chain.settle(state[left], left, low[0], settle)
    if relax:
        numbers, estimate = chain.estimate(state, low[0])
        return numbers, relax(numbers, estimate)
    return chain.read(chain.descend(state, chain.all, low, 0.0))


def split(levels: Sequence[float], at: float) -> tuple[Sequence[float], Sequence[float]]:
    """Split decreasing levels into those above ``at`` and the rest."""
    above = sum(level > at for level in levels)
    return levels[:above], levels[above:]


class _Chain:
    """Reverse diffusion of a batch of molecules.

    The state of a molecule consists of the positions and the element coordinates of its atoms,
    (n_atoms, 3 + n_elements), Å.
    """

    def __init__(
        self,
        denoiser: JointDenoiser,
        sizes: Tensor,
        generator: torch.Generator,
        observe: Observer | None,
    ) -> None:
        device = next(denoiser.parameters()).device
        self.all = torch.arange(len(sizes), device=device)
        self._denoiser = denoiser
        self._real = (torch.arange(int(sizes.max()))[None] < sizes[:, None]).to(device)
        self._elements = torch.tensor(denoiser.network.elements, device=device)
        self._settled = torch.full((*self._real.shape, len(self._elements)), torch.nan).to(device)
        self._generator = generator
        self._observe = observe

    def begin(self, level: float) -> Tensor:
        """Draw noise with the variance of noisy molecules."""
        highest = (level**2 + self._denoiser.config.sigma_data**2) ** 0.5
        return highest * self._noise(self._real)

    def rise(self, state: Tensor, which: Tensor, level: float, higher: float) -> Tensor:
        """Add noise to the state of some molecules, up to a higher level."""
        return state + (higher**2 - level**2) ** 0.5 * self._noise(self._real[which])

    def descend(self, state: Tensor, which: Tensor, levels: Sequence[float], end: float) -> Tensor:
        """Sample the reverse diffusion of some molecules along levels, down to ``end``."""
        real = self._real[which]

        def denoise(state: Tensor, sigma: float) -> Tensor:
            estimate, probabilities = self._clean(state, which, sigma)
            if self._observe:
                self._observe(sigma, which, state[..., :3], estimate, probabilities)
            return torch.cat([estimate, self._denoiser.element_scale * probabilities], -1)

        return sample_stochastic(denoise, state, levels, lambda _: self._noise(real), end)

    def settle(self, state: Tensor, which: Tensor, level: float, choose: Settle) -> Tensor:
        """Choose the elements of some molecules; return those for which none were found."""
        estimate, logits = self._denoise(state, which, level)
        numbers = self._denoiser.network.elements
        left = []
        for place, (i, positions, scores) in enumerate(
            zip(which.tolist(), estimate.double(), logits.double().log_softmax(-1), strict=True)
        ):
            real = self._real[i]
            chosen = choose(numbers, scores[real].cpu().numpy(), positions[real].cpu().numpy())
            if chosen is None:
                left.append(place)
            else:
                places = self._denoiser.network.lookup[torch.as_tensor(chosen)]
                one_hot = torch.nn.functional.one_hot(places, len(numbers))
                self._settled[i, real] = one_hot.to(self._settled)
        return which[left]

    def estimate(self, state: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Return the elements and the estimated minima of all molecules."""
        positions, probabilities = self._clean(state, self.all, level)
        return self.read(torch.cat([positions, probabilities], -1))

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the elements and positions of a state."""
        return self._elements[state[..., 3:].argmax(-1)] * self._real, state[..., :3]

    def _clean(self, state: Tensor, which: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Estimate minima and element probabilities (one-hot for elements already chosen)."""
        estimate, logits = self._denoise(state, which, sigma)
        probabilities = logits.softmax(-1) * self._real[which][..., None]
        settled = self._settled[which]
        return estimate, torch.where(settled.isnan(), probabilities, settled)

    def _denoise(self, state: Tensor, which: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        alike = state.new_full((len(state),), sigma)
        return self._denoiser.joint(state[..., :3], state[..., 3:], alike, self._real[which])

    def _noise(self, real: Tensor) -> Tensor:
        shape = *real.shape, 3 + len(self._elements)
        drawn = torch.randn(shape, generator=self._generator).to(real.device)
        return torch.cat([centre(drawn[..., :3], real), drawn[..., 3:] * real[..., None]], -1)
