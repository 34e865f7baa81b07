"""Bound the errors of starts at the level whose minima they are, and add the bound to a model.

Run: OMP_NUM_THREADS=1 python analysis/own_minima.py LABELS MODEL

LABELS is a part of the released minima of AIMNet2, MODEL the model's .safetensors file, which is
replaced. At that level the model leaves a minimum of AIMNet2 as it is, and what remains is the
difference between two minimisations. It is measured on the validation molecules of the part, which
are relaxed from their embeddings.
"""

import sys
from pathlib import Path

import numpy as np
from labels import Part

from diffrelax.data.minima import TRAINED_ON, embed_with_seed, pack_minima
from diffrelax.diffusion.reading import ErrorBound
from diffrelax.geometry import superpose
from diffrelax.levels.batch import relax_many
from diffrelax.models.starts import FMAX
from diffrelax.training.calibration import fit_bound
from diffrelax.training.state import load_tensors, save_tensors

START = "aimnet2"


def main(labels: Path, weights: Path) -> None:
    """Measure the errors, and write the bound."""
    part = Part.load(labels)
    level = part.about["level"]
    bound = bound_of_minima(part)
    tensors, metadata = load_tensors(weights)
    del metadata["sha256"]
    metadata["config"]["calibrations"][level]["after_starts"] = {START: bound.model_dump()}
    save_tensors(tensors, weights, metadata)


def bound_of_minima(part: Part) -> ErrorBound:
    """Relax the embeddings of validation molecules, and bound their distance from the minimum."""
    validation = [m for m in part.minima if m.split == "validation"]
    conformers = {m.smiles: m for m in reversed(validation)}  # one of each molecule
    by_place = {minimum.place: minimum for minimum in conformers.values()}
    packed = pack_minima(list(by_place.values()), part.about["level"], relax=False)["validation"]
    usable = TRAINED_ON.in_basin(packed.start_rmsd, packed.start_torsion)
    minima = [by_place[place] for place in packed.index[usable].tolist()]
    starts = [start for minimum in minima if (start := embed_with_seed(minimum))]
    ends = relax_many(starts, START, fmax=FMAX)
    pairs = [(e, m) for e, m in zip(ends, minima, strict=True) if e.converged]
    sizes = np.array([len(minimum.numbers) for _, minimum in pairs])
    errors = np.array([superpose(end.positions, m.positions)[1] for end, m in pairs])
    bound = fit_bound([(sizes, errors)])
    print(f"{len(starts)} molecules, {len(pairs)} converged; Å: median {np.median(errors):.4f},",
          *(f"{q:.0%} {np.quantile(errors, q):.4f}," for q in (0.8, 0.9)), bound)  # fmt: skip
    return bound


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
