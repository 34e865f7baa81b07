"""How many evaluations of the network a relaxation needs, by schedule and solver.

Run: python analysis/schedules.py relax-qm9-2 analysis/results/relax-qm9-2/schedules.json
or, with molecules of a packed set at one of its levels of theory:
     python analysis/schedules.py MODEL schedules.json validation.npz r2SCAN-3c

Molecules of the validation split whose MMFF94 geometry is in the basin of the minimum.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from records import how_made, store
from tqdm import tqdm

from diffrelax.data.qm9 import load_qm9
from diffrelax.diffusion.samplers import Denoise, sample_deterministic
from diffrelax.diffusion.schedule import denoise_as
from diffrelax.geometry import geometry_errors
from diffrelax.models.release import Model, load_model
from diffrelax.results.tables import markdown_table
from diffrelax.training.geometries import Batch, GeometrySet, like_batches

N = 1000
BATCH = 100
EVALUATIONS = (1, 2, 3, 4, 5, 8, 16)
HIGHEST, LOWEST, ALONE = 0.08, 0.006, 0.15  # Å, of the polish; ALONE starts one without a bridge
QUANTITIES = ("rmsd", "bonds", "angles", "torsions")

Solver = Callable[[Denoise, torch.Tensor, Sequence[float]], torch.Tensor]


def sample_heun(denoise: Denoise, positions: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Follow the probability flow by Heun's method (Karras et al. 2022, alg. 1).

    Two evaluations for each level but the last.
    """
    for sigma, lower in pairwise([*sigmas, 0.0]):
        slope = (positions - denoise(positions, sigma)) / sigma
        ahead = positions + (lower - sigma) * slope
        if lower > 0:
            slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
            ahead = positions + (lower - sigma) * slope
        positions = ahead
    return positions


def schedules() -> Iterator[tuple[str, int, list[float], list[float], Solver]]:
    """Yield the name, the evaluations, the bridge, the polish and its solver."""
    for n in EVALUATIONS:
        yield "bridge", n, falling(0.1, 0.0125, n) if n > 1 else [0.1], [], sample_deterministic
        yield "Gaussian", n, [], falling(ALONE, LOWEST, n), sample_deterministic
        if n > 1:
            polish = falling(HIGHEST, LOWEST, n - 1)
            yield "bridge, polish", n, [0.1], polish, sample_deterministic
        if n > 2:
            polish = falling(HIGHEST, LOWEST, n - 2)
            yield "two of bridge, polish", n, [0.1, 0.05], polish, sample_deterministic
        if n > 3 and n % 2 == 0:
            yield "bridge, polish by Heun", n, [0.1], falling(HIGHEST, LOWEST, n // 2), sample_heun


def falling(first: float, last: float, n: int) -> list[float]:
    """Return levels between the two on a logarithmic scale; of a single level, their mean."""
    return np.geomspace(first, last, n).tolist() if n > 1 else [float(np.sqrt(first * last))]


def main(name: str, path: Path, packed: str = "", level: str = "") -> None:
    """Write the table."""
    model = load_model(name)
    geometries = GeometrySet.load(Path(packed)) if packed else load_qm9("validation")
    geometries = geometries.known_as(model.config.network.levels)
    trained = model.config.training
    usable = trained.in_basin(geometries.start_rmsd, geometries.start_torsion)
    if level:
        usable &= geometries.level == geometries.levels.index(model.nearest_level(level).level)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(usable))[:N]
    batches = list(like_batches(geometries, chosen, usable, BATCH))
    rows = []
    for family, n, bridge, polish, solver in tqdm(list(schedules()), unit="schedule"):
        medians = median_errors(model, batches, bridge, polish, solver)
        rows.append(
            {"schedule": family, "evaluations": n, "bridge": bridge, "polish": polish} | medians
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    result = how_made(model) | {
        "step": model.step,
        "split": "validation, MMFF94 geometries in the basin",
        "level": level or model.config.level,
        "n": len(chosen),
        "units": {"bridge": "Å", "polish": "Å", "torsions": "degrees"}
        | dict.fromkeys(QUANTITIES[:3], "Å"),
        "rows": rows,
    }
    store(path, result)
    print(table(rows))


@torch.no_grad()
def median_errors(
    model: Model,
    batches: list[Batch],
    bridge: Sequence[float],
    polish: Sequence[float],
    solver: Solver,
) -> dict[str, float]:
    """Relax all molecules by one schedule; medians of their errors."""
    errors = []
    for batch in batches:
        positions = batch.starts
        for is_bridge, levels, solve in ((True, bridge, sample_deterministic),
                                         (False, polish, solver)):  # fmt: skip
            denoise = denoise_as(model.denoiser, batch.numbers, is_bridge, batch.context)
            positions = solve(denoise, positions, levels)
        errors += [geometry_errors(*one) for one in batch.unpadded(positions)]
    return {q: float(np.nanmedian([getattr(e, q) for e in errors])) for q in QUANTITIES}


def table(rows: list[dict]) -> str:
    """Format bonds / 1-3 distances / RMSD in mÅ: schedules down, evaluations across."""
    cells = {
        (row["schedule"], row["evaluations"]): " / ".join(
            f"{1e3 * row[q]:.{digits}f}" for q, digits in (("bonds", 2), ("angles", 2), ("rmsd", 1))
        )
        for row in rows
    }
    return markdown_table(
        ("bonds / 1–3 distances / RMSD, mÅ", *map(str, EVALUATIONS)),
        [
            (family, *(cells.get((family, n), "–") for n in EVALUATIONS))
            for family in dict.fromkeys(row["schedule"] for row in rows)
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
