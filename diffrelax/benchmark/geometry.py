"""Errors of relaxed geometries against DFT geometries, for the model and other methods."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import isfinite

import numpy as np
from tqdm.auto import tqdm

from diffrelax.benchmark.estimates import Estimate, estimate_median
from diffrelax.benchmark.sample import STARTS, Sample, in_basin, peer_settings, relaxed_positions
from diffrelax.geometry import GeometryErrors, geometry_errors
from diffrelax.models.batches import choose_schedule
from diffrelax.models.release import Model
from diffrelax.relaxation import relax_molecules
from diffrelax.results.tables import markdown_table

SIZES = (1, 10, 20, 30, 1000)  # heavy atoms
QUANTITIES = ("rmsd", "bonds", "angles", "torsions")


@dataclass(frozen=True)
class GeometryRow:
    """Errors of one method over many molecules.

    Parameters
    ----------
    method : str
    n : int
        Number of molecules.
    median, low, high : GeometryErrors
        Medians over the molecules, and their 95% intervals, NaN for fewer than six molecules.
    failed : int
        Number of molecules for which the method failed; their errors are those of the start.
    milliseconds : float or None
        Wall time per molecule without the time of the start; None for the start itself. Cheap
        levels relax one molecule after the other; GFN2-xTB uses the program xtb if it is
        installed.
    errors : tuple of GeometryErrors
        One for each molecule, in the order of the sample.
    error_bounds : tuple of float, Å
        Error bounds of the model, NaN where it gives none; empty for other methods.
    """

    method: str
    n: int
    median: GeometryErrors
    low: GeometryErrors
    high: GeometryErrors
    failed: int
    milliseconds: float | None
    errors: tuple[GeometryErrors, ...]
    error_bounds: tuple[float, ...] = ()


def evaluate_geometry(
    model: Model,
    sample: Sample,
    *,
    levels: tuple[str, ...] = ("gfn2-xtb",),
    noise_levels: Sequence[float | None] = (None,),
    model_levels: Sequence[str] = (),
    progress: bool = False,
) -> list[GeometryRow]:
    """Compare the model with levels of theory on the same starts; the first row is the starts.

    Parameters
    ----------
    model : Model
    sample : Sample
    levels : tuple of str
        Levels that relax the starts to 0.02 eV/Å; the level of the starts is left out.
    noise_levels : sequence of float or None, Å
        First noise levels of the model, one row each; see
        :func:`diffrelax.models.batches.choose_schedule`.
    model_levels : sequence of str
        Levels of theory that the model relaxes to, one row each. Default: the level of the
        references, or the model's own if it has not learned that level.
    progress : bool

    Raises
    ------
    ValueError
        If the model does not know a noise level or has not learned a level of theory.
    """
    known = sample.level in model.config.levels
    chosen = [model.nearest_level(level).level for level in model_levels] or [
        sample.level if known else model.config.level
    ]
    for noise_level in noise_levels:
        choose_schedule(model, noise_level)
    rows = [_row(sample.start, [m.positions for m in sample.starts], sample, 0, None)]
    for level in levels:
        if level == sample.start:
            continue
        rows.append(_evaluate_level(level, sample, progress))
    rows += [
        _evaluate_model(
            model,
            level,
            noise_level,
            sample,
            progress,
            named=level != sample.level and bool(sample.level or len(chosen) > 1),
        )
        for level in chosen
        for noise_level in noise_levels
    ]
    return rows


def _evaluate_model(
    model: Model,
    level: str,
    noise_level: float | None,
    sample: Sample,
    progress: bool,
    *,
    named: bool,
) -> GeometryRow:
    """Relax a sample with the model; `named` adds the level to the name of the method."""
    begun = time.perf_counter()
    results = relax_molecules(
        sample.starts, model, level=level, noise_level=noise_level, progress=progress
    )
    seconds = time.perf_counter() - begun
    ends = zip(results, sample.starts, strict=True)
    positions = [(result.molecule or start).positions for result, start in ends]
    failed = sum(r.verdict != "relaxed" for r in results)
    method = model.name if noise_level is None else f"{model.name}, from {noise_level} Å"
    if named:
        method += f", at {level}"
    row = _row(method, positions, sample, failed, seconds)
    return replace(row, error_bounds=tuple(result.error_bound for result in results))


def _evaluate_level(level: str, sample: Sample, progress: bool) -> GeometryRow:
    positions, failed = [], 0
    begun = time.perf_counter()
    for start in tqdm(sample.starts, desc=level, unit="mol", disable=None if progress else True):
        end = relaxed_positions(start, level)
        failed += end is None
        positions.append(start.positions if end is None else end)
    return _row(level, positions, sample, failed, time.perf_counter() - begun)


def _row(
    method: str, positions: list[np.ndarray], sample: Sample, failed: int, seconds: float | None
) -> GeometryRow:
    errors = [
        geometry_errors(start.numbers, p, reference)
        for start, p, reference in zip(sample.starts, positions, sample.references, strict=True)
    ]
    columns = ([getattr(e, q) for e in errors] for q in QUANTITIES)
    # a molecule may have no torsion
    medians = [estimate_median([x for x in column if isfinite(x)]) for column in columns]
    return GeometryRow(
        method=method,
        n=len(errors),
        median=GeometryErrors(*(one.value for one in medians)),
        low=GeometryErrors(*(one.low for one in medians)),
        high=GeometryErrors(*(one.high for one in medians)),
        failed=failed,
        milliseconds=None if seconds is None else 1e3 * seconds / len(errors),
        errors=tuple(errors),
    )


def geometry_table(rows: list[GeometryRow], start: str) -> str:
    """Format rows as a markdown table of medians, with their 95% intervals in brackets.

    Parameters
    ----------
    rows : list of GeometryRow
    start : str
        Start of the sample.
    """
    forms = {"rmsd": (1.0, ".3f"), "bonds": (1e-3, ".1f"), "angles": (1e-3, ".1f"),
             "torsions": (1.0, ".1f")}  # fmt: skip
    header = (
        f"start: {STARTS[start]}", "aligned RMSD, Å", "bonds, mÅ", "1–3 distances, mÅ",
        "torsions, °", "not relaxed", "ms per molecule",
    )  # fmt: skip
    lines = []
    for row in rows:
        cells = []
        for q, (unit, form) in forms.items():
            found = Estimate(*(getattr(errors, q) for errors in (row.median, row.low, row.high)))
            cells.append(format(found / unit, form))
        time = "–" if row.milliseconds is None else f"{row.milliseconds:.1f}"
        lines.append((row.method, *cells, str(row.failed), time))
    return markdown_table(header, lines)


def bounds_table(rows: list[GeometryRow], sample: Sample) -> str:
    """Format a markdown table of the fraction of errors below their bounds, by size.

    Only starts in the basin of their minimum are counted, since bounds are calibrated for these.
    """
    inside = np.array([*map(in_basin, sample.starts, sample.references)])
    heavy = np.array([start.n_heavy for start in sample.starts])
    lines = []
    for row in rows:
        if row.error_bounds:
            errors, bounds = np.array([e.rmsd for e in row.errors]), np.array(row.error_bounds)
            kept = inside & np.isfinite(bounds)
            parts = bounds_by_size(heavy[kept], errors[kept], bounds[kept], SIZES)
            lines += [(row.method, *cells) for cells in parts]
    header = ("method", "heavy atoms", "in the basin", "median error, Å", "median bound, Å",
              "below the bound")  # fmt: skip
    return markdown_table(header, lines) if lines else ""


def bounds_by_size(
    heavy: np.ndarray, errors: np.ndarray, bounds: np.ndarray, sizes: Sequence[int]
) -> Iterator[tuple[str, ...]]:
    """Yield the fraction of errors below their bounds, by size.

    Parameters
    ----------
    heavy : (n,) int array
        Numbers of heavy atoms.
    errors, bounds : (n,) array, Å
    sizes : sequence of int
        Lower edges of the size classes in heavy atoms; the last is an upper limit.

    Yields
    ------
    tuple of str
        Name of the size class, number of molecules, medians of errors and bounds, and fraction of
        errors below their bounds; empty classes are skipped.
    """
    for low, high in pairwise(sizes):
        chosen = (low <= heavy) & (heavy < high)
        if chosen.any():
            size = f"{low} to {high - 1}" if high < sizes[-1] else f"{low} and more"
            medians = (f"{np.median(values[chosen]):.3f}" for values in (errors, bounds))
            below = np.mean(errors[chosen] <= bounds[chosen])
            yield size, str(chosen.sum()), *medians, f"{below:.0%}"


def geometry_record(rows: list[GeometryRow], sample: Sample, **about: object) -> dict[str, object]:
    """Return an evaluation as a plain record, for JSON.

    It contains the settings, the rows, which starts are in the basin of their minimum, and all
    errors.
    """
    return {
        **about,
        "start": sample.start,
        "level": sample.level,
        "n": len(sample.indices),
        "settings": {row.method: found for row in rows if (found := peer_settings(row.method))},
        "units": {"rmsd": "Å", "bonds": "Å", "angles": "Å", "torsions": "degrees"},
        "rows": [
            {key: v for key, v in asdict(row).items() if not key.startswith("error")}
            for row in rows
        ],
        f"{sample.source}_indices": sample.indices,
        "heavy_atoms": [start.n_heavy for start in sample.starts],
        "in_basin": [*map(in_basin, sample.starts, sample.references)],
        "errors": {
            row.method: {q: [round(getattr(e, q), 5) for e in row.errors] for q in QUANTITIES}
            for row in rows
        },
        "error_bounds": {
            row.method: [round(bound, 5) for bound in row.error_bounds]
            for row in rows
            if row.error_bounds
        },
    }
