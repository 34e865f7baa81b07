"""Reference molecules for released weights that carry none: where the network takes them.

    python analysis/references.py models/references.json relax-qm9-2 generate-qm9-2

Weights that ``diffrelax train`` writes have theirs in their metadata.
"""

import argparse
import json
from pathlib import Path

import torch

import diffrelax as dr
from diffrelax.models.release import Model
from diffrelax.network.network import Context
from diffrelax.training.geometries import Batch
from diffrelax.training.references import make_references

SMILES = ("CO", "NC=O", "C#CC", "OC=C", "NCC", "N#CC", "CF", "O=CC=O", "C1CN1")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    found = {}
    for model in map(dr.load_model, options.models):
        molecules, schedule = starts(model), model.config.relaxation
        references = make_references(model.denoiser, molecules, schedule)
        found[model.name] = [one.model_dump() for one in references]
    options.output.write_text(json.dumps(found) + "\n")


def starts(model: Model) -> Batch:
    """Return MMFF94 geometries of one molecule for each level, three at least."""
    n = max(3, len(model.config.levels))
    molecules = [dr.Molecule.from_smiles(smiles) for smiles in SMILES[:n]]
    numbers, positions = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(v) for v in values], batch_first=True)
        for values in zip(*((m.numbers, m.positions) for m in molecules), strict=True)
    )
    level = torch.arange(n) if len(model.config.network.levels) >= n else torch.zeros(n, dtype=int)
    nothing = torch.zeros_like(level)
    context = Context(level, nothing, nothing)
    positions = positions.float()
    has_start = torch.ones(n, dtype=torch.bool)
    return Batch(numbers.long(), positions, positions, has_start, context)


if __name__ == "__main__":
    main()
