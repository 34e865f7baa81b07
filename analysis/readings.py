"""The readings behind WIDE, FAR and LOST of `diffrelax.diffusion.reading`, on validation molecules.

Run: OMP_NUM_THREADS=1 python analysis/readings.py analysis/results/relax-qm9-2/readings.json
or, with molecules of a packed set at one of the levels of theory of a model:
     OMP_NUM_THREADS=1 python analysis/readings.py readings.json MODEL validation.npz r2SCAN-3c

A reading at the last level of the schedule does not see what is off by many times that level, such
as a geometry that is stretched as a whole: a second one, at a wider level, must tell those from
minima. Read at several such levels are all validation minima, and the first of them in a fixed
random order stretched and shrunk. Where the whole schedule leads from these, and from coordinates
in other units, a reading of the end must tell whether a minimum was found.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dft_speedup import MODEL, about_model
from records import how_made, store

import diffrelax as dr
from diffrelax.data.qm9 import load_qm9
from diffrelax.diffusion.reading import FAR, LOST, WIDE, read
from diffrelax.diffusion.schedule import relax_positions
from diffrelax.geometry import superpose
from diffrelax.training.geometries import Batch, GeometrySet, like_batches

LEVELS = (0.04, 0.08, 0.15)  # Å
FACTORS = (0.92, 0.97, 1.03, 1.05, 1.08)
UNITS = {"bohr": 1.8897, "nm": 0.1}  # what an Å is in them
N = 200
BATCH = 128


def main(output: Path, name: str = MODEL, packed: str = "", level: str = "") -> None:
    """Read, relax and write."""
    model = dr.load_model(name)
    level = model.nearest_level(level or None).level
    last = model.config.relaxation.polish[-1]
    calibration = model.config.calibrations[level]
    validation = GeometrySet.load(Path(packed)) if packed else load_qm9("validation")
    validation = validation.known_as(model.config.network.levels)
    of_level = np.flatnonzero(validation.level == validation.levels.index(level))
    order = np.random.default_rng(0).permutation(of_level)
    minima = readings(model, validation, order, 1.0, (last, *LEVELS))
    made = how_made(shared=True, split="validation", level=level) | about_model(model)
    page = made | {
        "constants": {"WIDE": WIDE, "FAR": FAR, "LOST": LOST, "near": calibration.near},
        "units": "Å for each coordinate",
        "minima": summary(minima, len(order)),
        "stretched": {},
        "ends": {"minima": summary(ends(model, validation, order[:N], 1.0), N)},
    }
    page["minima"]["wide_at_least_far"] = int((minima[WIDE] >= FAR).sum())
    for factor in FACTORS:
        found = readings(model, validation, order[:N], factor, (last, *LEVELS))
        passed = (found[last] < calibration.near) & (found[WIDE] < FAR)
        page["stretched"][str(factor)] = summary(found, N) | {"taken_for_near": int(passed.sum())}
        page["ends"][str(factor)] = summary(ends(model, validation, order[:N], factor), N)
    for unit, factor in UNITS.items():
        page["ends"][unit] = summary(ends(model, validation, order[:N], factor), N)
    store(output, page)


def readings(
    model: dr.Model, geometries: GeometrySet, places: np.ndarray, factor: float, levels: Any
) -> dict[float, np.ndarray]:
    """Read scaled minima at some levels, Å."""
    rows = [
        [
            read(model.denoiser, batch.numbers, factor * batch.positions, s, batch.context)[0]
            for s in levels
        ]
        for batch in without_starts(geometries, places)
    ]
    columns = [torch.cat(column).double().numpy() for column in zip(*rows, strict=True)]
    return dict(zip(levels, columns, strict=True))


def ends(
    model: dr.Model, geometries: GeometrySet, places: np.ndarray, factor: float
) -> dict[str, np.ndarray]:
    """Relax scaled minima along the whole schedule; return the wide readings and errors, Å."""
    wide, errors = [], []
    for batch in without_starts(geometries, places):
        end = relax_positions(
            model.denoiser,
            batch.numbers,
            factor * batch.positions,
            model.config.relaxation,
            context=batch.context,
        )
        wide.append(
            read(model.denoiser, batch.numbers, end, WIDE, batch.context)[0].double().numpy()
        )
        errors += [superpose(*both)[1] for _, *both in batch.unpadded(end)]
    found = np.concatenate(wide)
    return {
        "wide": found,
        "rmsd": np.array(errors),
        "rmsd_of_those_not_lost": np.array(errors)[found < LOST],
    }


def without_starts(geometries: GeometrySet, places: np.ndarray) -> Iterator[Batch]:
    """Pad the minima of molecules of like size together."""
    return like_batches(geometries, places, np.zeros(len(geometries), dtype=bool), BATCH)


def summary(values: dict[Any, np.ndarray], n: int) -> dict[str, Any]:
    """Return quantiles of what was read."""
    told: dict[str, Any] = {"molecules": n}
    for name, array in values.items():
        points = np.quantile(array, (0, 0.01, 0.5, 0.99, 1)) if len(array) else np.full(5, np.nan)
        told[str(name)] = {
            "n": len(array),
            **dict(zip(("least", "1%", "median", "99%", "most"), points.round(5), strict=True)),
        }
    if "wide" in values:
        told["lost"] = int((values["wide"] >= LOST).sum())
    return told


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
