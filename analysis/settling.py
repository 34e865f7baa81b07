"""Choose where elements settle, where molecules go back to, and what relaxes, on trial molecules.

Run: python analysis/settling.py generate-qm9-2 analysis/results/generate-qm9-2/settling.json

Each trial is kept when it is done: the same command goes on where it was stopped. The seed is
another than that of `analysis/generation.py`, whose molecules are judged.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from paper.quality import generation_quality
from records import how_made, store

from diffrelax.generation import generate
from diffrelax.models.release import load_model

SEED = 1
RELAXER = "relax-qm9-2"
KEPT = ("valid", "valid_by_rdkit", "stable_atoms", "stable_molecules", "reasons")
# what differs from the defaults; whether another model relaxes
TRIALS = (
    *(({"settle_at": s, "restarts": 0, "n_levels": 200}, False) for s in (0.3, 0.15, 0.08, 0.04)),
    *(({"restart_at": level, "n_levels": 200}, False) for level in (0.25, 0.5, 1.0)),
    *(({"settle_at": level, "n_levels": 200}, True) for level in (0.15, 0.08, 0.04)),
    *(({"n_levels": n}, True) for n in (100, 50)),
)


def main() -> None:
    """Try what has not been tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("-n", type=int, default=200, help="molecules of a trial")
    options = parser.parse_args()
    model, relaxer = load_model(options.model), load_model(RELAXER)
    about = how_made(model, relaxer=RELAXER, seed=SEED, n=options.n)
    known = json.loads(options.file.read_text())["trials"] if options.file.exists() else []
    for settings, relaxes in TRIALS:
        if any((t["settings"], t["relaxer"]) == (settings, relaxes) for t in known):
            continue
        generation = model.config.generation.model_copy(update=settings)
        varied = model.config.model_copy(update={"generation": generation})
        begun = time.process_time()
        made = generate(
            replace(model, config=varied), relaxer if relaxes else None, options.n, seed=SEED
        )
        seconds = round((time.process_time() - begun) / options.n, 3)
        quality = generation_quality(made, set())
        found = {name: getattr(quality, name) for name in KEPT} | {"processor_seconds": seconds}
        known.append({"settings": settings, "relaxer": relaxes} | found)
        store(options.file, about | {"trials": known})


if __name__ == "__main__":
    main()
