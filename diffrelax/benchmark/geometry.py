"""Errors of relaxed geometries against QM9's DFT geometries, for the model and its peers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import ase
import numpy as np
from tqdm.auto import tqdm

from diffrelax.levels import relax_at_level
from diffrelax.models import Model
from diffrelax.molecule import Molecule
from diffrelax.relaxation import choose_schedule, relax_molecules
from diffrelax.training.errors import GeometryErrors, geometry_errors
from diffrelax.training.geometries import GeometrySet

QUANTITIES = ("rmsd", "bonds", "angles", "torsions")


@dataclass(frozen=True)
class GeometryRow:
    """Errors of one method over many molecules, from MMFF94 starts.

    Parameters
    ----------
    method : str
    n : int
        Molecules counted.
    median, low, high : GeometryErrors
        Medians over the molecules, and their 95% bootstrap intervals.
    failed : int
        Molecules for which the method returned nothing better than its start; their start's
        errors are counted.
    milliseconds : float or None
        Wall time for each molecule, the MMFF94 relaxation of the start not counted; None for the
        start itself. Other levels run one molecule after the other on one thread, in this process.
    errors : tuple of GeometryErrors
        Of each molecule, in the order of the sample.
    """

    method: str
    n: int
    median: GeometryErrors
    low: GeometryErrors
    high: GeometryErrors
    failed: int
    milliseconds: float | None
    errors: tuple[GeometryErrors, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """Molecules at their MMFF94 geometries, with their DFT geometries.

    Parameters
    ----------
    starts : list of Molecule
    references : list of (n_atoms, 3) arrays, Å
    indices : list of int
        QM9 indices.
    """

    starts: list[Molecule]
    references: list[np.ndarray]
    indices: list[int]


def choose_sample(geometries: GeometrySet, n: int) -> Sample:
    """Choose the first ``n`` molecules in a fixed random order, whether in the basin or not.

    Only molecules that have an MMFF94 geometry can be chosen.

    Raises
    ------
    ValueError
        If ``n`` is not positive, or larger than the number of such molecules.
    """
    eligible = np.flatnonzero(np.isfinite(geometries.start_rmsd))
    if not 0 < n <= len(eligible):
        raise ValueError(f"n = {n}: choose 1 to {len(eligible)} molecules")
    chosen = np.random.default_rng(0).permutation(eligible)[:n]
    starts, references = [], []
    for i in chosen:
        rows = geometries.atoms(i)
        info = {"name": f"qm9-{geometries.index[i]}", "smiles": geometries.smiles[i].decode()}
        atoms = ase.Atoms(geometries.numbers[rows], geometries.starts[rows], info=info)
        starts.append(Molecule.from_atoms(atoms))
        references.append(geometries.positions[rows].astype(np.float64))
    return Sample(starts, references, [int(geometries.index[i]) for i in chosen])


def evaluate_geometry(
    model: Model,
    sample: Sample,
    *,
    levels: tuple[str, ...] = ("gfn2-xtb",),
    noise_levels: Sequence[float | None] = (None,),
    progress: bool = False,
) -> list[GeometryRow]:
    """Compare the model, MMFF94 and other levels of theory on the same starts.

    Parameters
    ----------
    model : Model
    sample : Sample
    levels : tuple of str
        Levels that also relax the MMFF94 geometry, to 0.02 eV/Å.
    noise_levels : sequence of float or None, Å
        From which the model relaxes, a row each; see :func:`diffrelax.relaxation.choose_schedule`.
    progress : bool

    Raises
    ------
    ValueError
        If the model does not know a noise level.
    """
    for noise_level in noise_levels:
        choose_schedule(model, noise_level)
    rows = [_row("mmff94", [m.positions for m in sample.starts], sample, 0, None)]
    for level in levels:
        rows.append(_evaluate_level(level, sample, progress))
    rows += [_evaluate_model(model, noise_level, sample, progress) for noise_level in noise_levels]
    return rows


def _evaluate_model(
    model: Model, noise_level: float | None, sample: Sample, progress: bool
) -> GeometryRow:
    begun = time.perf_counter()
    results = relax_molecules(sample.starts, model, noise_level=noise_level, progress=progress)
    seconds = time.perf_counter() - begun
    positions = [r.molecule.positions for r in results if r.molecule is not None]
    failed = sum(r.verdict != "relaxed" for r in results)
    method = model.name if noise_level is None else f"{model.name}, from {noise_level} Å"
    return _row(method, positions, sample, failed, seconds)


def _evaluate_level(level: str, sample: Sample, progress: bool) -> GeometryRow:
    positions, failed = [], 0
    begun = time.perf_counter()
    for start in tqdm(sample.starts, desc=level, unit="mol", disable=None if progress else True):
        relaxed = relax_at_level(start, level, fmax=0.02)
        failed += not relaxed.converged
        positions.append(relaxed.positions)
    return _row(level, positions, sample, failed, time.perf_counter() - begun)


def _row(
    method: str, positions: list[np.ndarray], sample: Sample, failed: int, seconds: float | None
) -> GeometryRow:
    errors = [
        geometry_errors(start.numbers, p, reference)
        for start, p, reference in zip(sample.starts, positions, sample.references, strict=True)
    ]
    values = np.array([[getattr(e, q) for q in QUANTITIES] for e in errors])
    rng = np.random.default_rng(0)
    resampled = values[rng.integers(len(values), size=(1000, len(values)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no molecule may have a torsion
        medians = np.nanmedian(resampled, axis=1)
        median = np.nanmedian(values, axis=0)
    return GeometryRow(
        method=method,
        n=len(values),
        median=_errors(median),
        low=_errors(np.quantile(medians, 0.025, axis=0)),
        high=_errors(np.quantile(medians, 0.975, axis=0)),
        failed=failed,
        milliseconds=None if seconds is None else 1e3 * seconds / len(values),
        errors=tuple(errors),
    )


def _errors(values: np.ndarray) -> GeometryErrors:
    return GeometryErrors(*map(float, values))


def geometry_table(rows: list[GeometryRow]) -> str:
    """Format rows as a markdown table of medians, with their 95% intervals in brackets."""
    scale: dict[str, tuple[float, Callable[[float], str]]] = {
        "rmsd": (1.0, "{:.3f}".format),
        "bonds": (1e3, "{:.1f}".format),
        "angles": (1e3, "{:.1f}".format),
        "torsions": (1.0, "{:.1f}".format),
    }
    lines = [
        "| start: MMFF94 | aligned RMSD, Å | bonds, mÅ | 1–3 distances, mÅ | torsions, ° "
        "| not relaxed | ms per molecule |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{show(k * getattr(row.median, q))} "
            f"[{show(k * getattr(row.low, q))}, {show(k * getattr(row.high, q))}]"
            for q, (k, show) in scale.items()
        ]
        time = "–" if row.milliseconds is None else f"{row.milliseconds:.1f}"
        lines.append(f"| {row.method} | {' | '.join(cells)} | {row.failed} | {time} |")
    return "\n".join(lines)


def geometry_record(rows: list[GeometryRow], sample: Sample, **about: object) -> dict[str, object]:
    """Return what is stored of an evaluation: how it was made, its rows, and every error."""
    return {
        **about,
        "n": len(sample.indices),
        "units": {"rmsd": "Å", "bonds": "Å", "angles": "Å", "torsions": "degrees"},
        "rows": [{key: v for key, v in asdict(row).items() if key != "errors"} for row in rows],
        "qm9_indices": sample.indices,
        "errors": {
            row.method: {q: [_rounded(getattr(e, q)) for e in row.errors] for q in QUANTITIES}
            for row in rows
        },
    }


def _rounded(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None
