"""The two phases of a generation: elements settle first, then the geometry relaxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffrelax.generation import Generated, Trajectory
from diffrelax.geometry import superpose
from diffrelax.levels import get_calculator, relax_at_level
from diffrelax.molecule import Molecule

MOST = 0.9  # of the molecules


@dataclass(frozen=True, eq=False)
class RelaxationPhase:
    """The energy of a molecule from where its elements settle to its end.

    Parameters
    ----------
    settled : float, Å
        Noise level from which the elements do not change any more.
    levels : (n_points,) array, Å
        Falling noise levels from there on; 0 at the end point.
    energies : (n_points,) array, eV
        Of the geometries at these levels, above the minimum that the end point relaxes to. NaN
        where the level of theory fails, as it may for atoms that nearly touch.
    line_energies : (n_points,) array, eV
        The same at as many points of the straight line from the first geometry to the end point,
        its coordinate the share of the noise that is left.
    """

    settled: float
    levels: np.ndarray
    energies: np.ndarray
    line_energies: np.ndarray


def settling_place(trajectory: Trajectory) -> int:
    """Return the place of the first noise level from which the elements stay as they are."""
    changed = (trajectory.numbers != trajectory.numbers[-1]).any(axis=1)
    return int(np.flatnonzero(changed)[-1]) + 1 if changed.any() else 0


def relaxation_phase(
    made: Generated, *, level: str = "gfn2-xtb", n_points: int = 40
) -> RelaxationPhase:
    """Follow the energy of a generated molecule through its relaxation phase.

    Parameters
    ----------
    made : Generated
        A molecule, with its trajectory.
    level : str
        Level of theory of the energies, one of `diffrelax.levels.LEVELS`.
    n_points : int
        Points in a whole trajectory, evenly spaced and counted back from its last step, so that
        trajectories of the same levels share them. The phase's first step is a point too.

    Raises
    ------
    ValueError
        If it is not a molecule, has no trajectory, or does not relax to a minimum of the same
        molecule at this level.
    """
    if made.molecule is None or made.trajectory is None:
        raise ValueError("the relaxation phase is that of a molecule with a trajectory")
    path, molecule = made.trajectory, made.molecule
    first, stride = settling_place(path), max(len(path.levels) // n_points, 1)
    places = np.unique([first, *range(len(path.levels) - 1, first, -stride)])
    end = molecule.positions
    start = superpose(path.positions[first], end)[0]
    levels = np.append(path.levels[places], 0.0)
    shares = levels / levels[0]
    lowest = _minimum_energy(molecule, level)
    return RelaxationPhase(
        settled=float(path.levels[first]),
        levels=levels,
        energies=_energies(molecule, [*path.positions[places], end], level) - lowest,
        line_energies=_energies(molecule, [end + s * (start - end) for s in shares], level)
        - lowest,
    )


def median_course(
    phases: Sequence[RelaxationPhase],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow the median energy where nine in ten molecules have settled.

    A geometry whose energy is not known counts as high.

    Parameters
    ----------
    phases : sequence of RelaxationPhase
        Of trajectories of the same levels.

    Returns
    -------
    levels : (n_levels,) array, Å
        Falling, down to 0.
    energies, line_energies : (n_levels,) array, eV
        Medians over the phases that have that point.
    """
    found: dict[float, list[tuple[float, float]]] = {}
    for phase in phases:
        points = zip(phase.energies, phase.line_energies, strict=True)
        for level, energies in zip(phase.levels.tolist(), points, strict=True):
            found.setdefault(level, []).append(energies)
    least = MOST * len(phases)
    levels = sorted((v for v, at in found.items() if len(at) >= least), reverse=True)
    medians = [np.median(np.nan_to_num(found[v], nan=np.inf), axis=0) for v in levels]
    return np.array(levels), *np.array(medians).T


def _minimum_energy(molecule: Molecule, level: str) -> float:
    relaxed = relax_at_level(molecule, level, fmax=0.01)
    if not relaxed.converged:
        raise ValueError(f"{molecule.name} has no minimum at level {level}: {relaxed.reason}")
    return relaxed.energy


def _energies(molecule: Molecule, geometries: list[np.ndarray], level: str) -> np.ndarray:
    atoms = molecule.to_atoms()
    atoms.calc = get_calculator(level, molecule)
    energies = np.full(len(geometries), np.nan)
    for i, positions in enumerate(geometries):
        atoms.positions = positions
        try:
            energies[i] = atoms.get_potential_energy()
        except (RuntimeError, ArithmeticError, ValueError):
            continue
    return energies
