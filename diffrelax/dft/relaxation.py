"""Relaxation of one molecule with DFT."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase.calculators.calculator import CalculationFailed
from threadpoolctl import threadpool_limits

from diffrelax.dft.hessian import gfn2_hessian, positive_hessian
from diffrelax.dft.minimisers import Minimiser, bfgs, criterion, geometric
from diffrelax.dft.recorder import Callback, Recorder
from diffrelax.dft.result import DFTRelaxation
from diffrelax.dft.settings import DFTSettings
from diffrelax.identity import identity_change
from diffrelax.levels.density_functional import DensityFunctional, mean_field

if TYPE_CHECKING:
    from diffrelax.molecule import Molecule

MINIMISERS: dict[str, Minimiser] = {"bfgs": bfgs, "geometric": geometric}


def relax_dft(
    molecule: Molecule,
    *,
    xc: str = "b3lyp",
    basis: str = "6-31G(2df,p)",
    fmax: float = 0.03,
    optimizer: Literal["bfgs", "geometric"] = "bfgs",
    hessian: Literal["gfn2-xtb", "none"] = "gfn2-xtb",
    density_fit: bool = True,
    grid_level: int = 3,
    max_steps: int = 200,
    threads: int | None = None,
    callback: Callback | None = None,
) -> DFTRelaxation:
    """Relax a molecule with DFT and count what it costs.

    The SCF of each step starts from the density of the step before. The optimizer starts from a
    GFN2-xTB Hessian, which saves most of the gradient calls; where GFN2-xTB cannot give one, the
    optimizer's own guess is used and a note says so.

    Parameters
    ----------
    molecule : Molecule
    xc, basis, fmax, optimizer, hessian, density_fit, grid_level, max_steps
        See `DFTSettings`.
    threads : int, optional
        Threads of PySCF and of linear algebra. Default: as the environment has it.
    callback : callable, optional
        Called after each gradient call as ``callback(number, energy in eV, fmax in eV/Å)``.

    Returns
    -------
    DFTRelaxation
        Also if something went wrong on the way: see its ``converged`` and ``reason``.

    Raises
    ------
    ValueError
        If a setting is invalid, the functional or basis is unknown, or lacks an element.
    """
    settings = DFTSettings(
        xc=xc,
        basis=basis,
        fmax=fmax,
        optimizer=optimizer,
        hessian=hessian,
        density_fit=density_fit,
        grid_level=grid_level,
        max_steps=max_steps,
    )
    return relax_with(molecule, settings, threads=threads, callback=callback)


def relax_with(
    molecule: Molecule,
    settings: DFTSettings,
    *,
    threads: int | None = None,
    callback: Callback | None = None,
) -> DFTRelaxation:
    """Relax a molecule with DFT as `relax_dft` does, with its settings in one object."""
    started = perf_counter()
    calculator = DensityFunctional(
        mean_field(
            molecule,
            xc=settings.xc,
            basis=settings.basis,
            density_fit=settings.density_fit,
            grid_level=settings.grid_level,
        )
    )
    recorder = Recorder(molecule, calculator, callback)
    start_hessian, hessian_seconds, notes = _start_hessian(molecule, settings)

    with threadpool_limits(limits=threads):
        reason = _minimise(recorder, molecule, start_hessian, settings)
    final = recorder.calls[-1].molecule if recorder.calls else molecule
    if not reason and (change := identity_change(molecule, final.positions)):
        reason = f"identity lost: {change}"
    if calculator.second_order:
        notes = (*notes, "the SCF needed second-order SCF to converge")
    return DFTRelaxation(
        molecule=final,
        converged=not reason,
        reason=reason,
        forces=recorder.calls[-1].forces
        if recorder.calls
        else np.full_like(molecule.positions, np.nan),
        energies=tuple(call.energy for call in recorder.calls),
        fmaxes=tuple(call.fmax for call in recorder.calls),
        scf_cycles=calculator.scf_cycles,
        seconds={
            "hessian": hessian_seconds,
            "dft": recorder.seconds,
            "total": perf_counter() - started,
        },
        criterion=criterion(settings.optimizer, settings.fmax),
        notes=notes,
        settings=settings,
    )


def _start_hessian(
    molecule: Molecule, settings: DFTSettings
) -> tuple[np.ndarray | None, float, tuple[str, ...]]:
    if settings.hessian == "none":
        return None, 0.0, ()
    started = perf_counter()
    try:
        hessian = positive_hessian(gfn2_hessian(molecule), molecule.positions)
    except (RuntimeError, ValueError) as error:
        note = f"no GFN2-xTB Hessian, the optimizer's own guess instead: {error}"
        return None, perf_counter() - started, (note,)
    return hessian, perf_counter() - started, ()


def _minimise(
    recorder: Recorder, molecule: Molecule, hessian: np.ndarray | None, settings: DFTSettings
) -> str:
    atoms = molecule.to_atoms()
    atoms.calc = recorder
    minimise = MINIMISERS[settings.optimizer]
    try:
        return minimise(atoms, hessian, settings.fmax, settings.max_steps)
    except CalculationFailed as error:
        return f"gradient call {len(recorder.calls) + 1} failed: {error}"
