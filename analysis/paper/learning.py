"""What a model knows of the potential energy surface: its steps against forces and Newton steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from diffrelax.dft.hessian import positive_hessian, rigid_motions
from diffrelax.diffusion.samplers import sample_deterministic
from diffrelax.geometry import superpose
from diffrelax.models.release import Model
from diffrelax.molecule import Molecule

SOFTEST = 0.05  # eV/Å²; below, the harmonic step leaves the range where it means anything


@dataclass(frozen=True)
class Agreement:
    """Cosines between two sets of vectors, one for each atom.

    Parameters
    ----------
    mean, spread : float
        Over the atoms; the spread is the standard deviation.
    """

    mean: float
    spread: float


@dataclass(frozen=True)
class StepAgreement:
    """How a displacement along a relaxation chain agrees with what drives a relaxation.

    Parameters
    ----------
    with_line : Agreement
        Of the displacement with the straight line to the minimum.
    with_force, force_with_line : Agreement or None
        Of the displacement and of the line with the force, where that is known.
    """

    with_line: Agreement
    with_force: Agreement | None
    force_with_line: Agreement | None


@dataclass(frozen=True)
class NewtonAgreement:
    """How one step of a model agrees with the first- and the second-order step, over all atoms.

    Parameters
    ----------
    with_force : float
        Cosine with the force, the direction of steepest descent.
    with_newton : float
        Cosine with the Newton step.
    length : float
        Length of the step over that of the Newton step.
    order : float
        Power p for which H⁻ᵖf has the direction of the step as nearly as it can, from -1 to 2: 0
        is steepest descent, 1 a Newton step.
    """

    with_force: float
    with_newton: float
    length: float
    order: float


def relaxation_chain(model: Model, molecule: Molecule, levels: Sequence[float]) -> np.ndarray:
    """Relax a molecule by Gaussian denoising in many small steps, and keep all of them.

    Parameters
    ----------
    model : Model
    molecule : Molecule
    levels : sequence of float, Å
        Falling noise levels, one step each.

    Returns
    -------
    (n_levels + 1, n_atoms, 3) array, Å
        The geometry before each step, and the end.
    """
    numbers = torch.tensor(molecule.numbers, device=model.device)[None]
    noise = torch.zeros(1, dtype=torch.bool, device=model.device)
    context = model.context([molecule.charge])
    seen: list[torch.Tensor] = []

    def denoise(positions: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(positions)
        return model.denoiser(numbers, positions, positions.new_full((1,), sigma), noise, context)

    start = torch.tensor(molecule.positions, dtype=torch.float32, device=model.device)[None]
    with torch.no_grad():
        end = sample_deterministic(denoise, start, levels)
    return torch.cat([*seen, end]).cpu().double().numpy()


def step_agreement(
    chain: np.ndarray,
    place: int,
    n_steps: int,
    minimum: np.ndarray,
    forces: np.ndarray | None = None,
) -> StepAgreement:
    """Compare a displacement along a chain with the way to the minimum and with the force.

    Rigid motions are taken out of the displacement and of the line. An atom that does not move has
    no direction and is left out.

    Parameters
    ----------
    chain : (n_levels + 1, n_atoms, 3) array, Å
        From `relaxation_chain`.
    place : int
        Where the displacement begins.
    n_steps : int
        Steps that it spans.
    minimum : (n_atoms, 3) array, Å
    forces : (n_atoms, 3) array, optional, eV/Å
        At ``chain[place]``, of the energy whose minimum this is.

    Raises
    ------
    ValueError
        If the chain ends before the displacement does.
    """
    if place + n_steps >= len(chain):
        raise ValueError(f"a chain of {len(chain) - 1} steps has no step {place} + {n_steps}")
    here = chain[place]
    step = superpose(chain[place + n_steps], here)[0] - here
    line = superpose(minimum, here)[0] - here
    return StepAgreement(
        with_line=_agreement(step, line),
        with_force=None if forces is None else _agreement(step, forces),
        force_with_line=None if forces is None else _agreement(forces, line),
    )


def newton_agreement(
    step: np.ndarray, positions: np.ndarray, forces: np.ndarray, hessian: np.ndarray
) -> NewtonAgreement:
    """Compare one step of a model with steepest descent and with a Newton step.

    Parameters
    ----------
    step : (n_atoms, 3) array, Å
    positions : (n_atoms, 3) array, Å
        Where it begins.
    forces : (n_atoms, 3) array, eV/Å
    hessian : (3 n_atoms, 3 n_atoms) array, eV/Å²
        At that geometry. Its curvatures count by their absolute value, at least 0.05 eV/Å²: there
        is no Newton step down a mode that has none.
    """
    rigid = rigid_motions(positions)
    flat, force = ((v.ravel() - rigid @ (rigid.T @ v.ravel())) for v in (step, forces))
    curvatures, modes = np.linalg.eigh(positive_hessian(hessian, positions, floor=SOFTEST))
    along = modes.T @ force

    def descent(order: float) -> np.ndarray:
        return modes @ (curvatures**-order * along)

    newton = descent(1.0)
    best = minimize_scalar(lambda p: -_cosine(flat, descent(p)), bounds=(-1, 2), method="bounded")
    return NewtonAgreement(
        with_force=_cosine(flat, force),
        with_newton=_cosine(flat, newton),
        length=float(np.linalg.norm(flat) / np.linalg.norm(newton)),
        order=float(best.x),
    )


def _agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    moving = lengths > 0
    cosines = (one * other).sum(axis=1)[moving] / lengths[moving]
    return Agreement(float(cosines.mean()), float(cosines.std()))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
