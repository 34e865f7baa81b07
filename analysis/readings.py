"""The readings behind WIDE, FAR and LOST of `diffrelax.diffusion.reading`, on validation molecules.

Run: OMP_NUM_THREADS=1 python analysis/readings.py analysis/results/relax-qm9-2/readings.json

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
from diffrelax.training.geometries import Batch, GeometrySet, collate

LEVELS = (0.04, 0.08, 0.15)  # Å
FACTORS = (0.92, 0.97, 1.03, 1.05, 1.08)
UNITS = {"bohr": 1.8897, "nm": 0.1}  # what an Å is in them
N = 200
BATCH = 128


def main(output: Path) -> None:
    """Read, relax and write."""
    model = dr.load_model(MODEL)
    last = model.config.relaxation.polish[-1]
    calibration = model.config.calibrations[model.config.level]
    validation = load_qm9("validation")
    order = np.random.default_rng(0).permutation(len(validation))
    minima = readings(model, validation, order, 1.0, (last, *LEVELS))
    made = how_made(shared=True, split="validation") | about_model(model)
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
            read(model.denoiser, batch.numbers, factor * batch.positions, s, batch.theory)[0]
            for s in levels
        ]
        for batch in batches(geometries, places)
    ]
    columns = [torch.cat(column).double().numpy() for column in zip(*rows, strict=True)]
    return dict(zip(levels, columns, strict=True))


def ends(
    model: dr.Model, geometries: GeometrySet, places: np.ndarray, factor: float
) -> dict[str, np.ndarray]:
    """Relax scaled minima along the whole schedule; return the wide readings and errors, Å."""
    wide, errors = [], []
    for batch in batches(geometries, places):
        end = relax_positions(
            model.denoiser,
            batch.numbers,
            factor * batch.positions,
            model.config.relaxation,
            theory=batch.theory,
        )
        wide.append(
            read(model.denoiser, batch.numbers, end, WIDE, batch.theory)[0].double().numpy()
        )
        for z, moved, minimum in zip(batch.numbers, end, batch.positions, strict=True):
            errors.append(superpose(moved[z > 0].numpy(), minimum[z > 0].numpy())[1])
    found = np.concatenate(wide)
    return {
        "wide": found,
        "rmsd": np.array(errors),
        "rmsd_of_those_not_lost": np.array(errors)[found < LOST],
    }


def batches(geometries: GeometrySet, places: np.ndarray) -> Iterator[Batch]:
    """Pad molecules of like size together."""
    ordered = places[np.argsort(geometries.sizes[places], kind="stable")]
    for i in range(0, len(ordered), BATCH):
        yield collate(geometries, ordered[i : i + BATCH], np.zeros(len(geometries), dtype=bool))


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
    main(Path(sys.argv[1]))
