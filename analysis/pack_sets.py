"""Pack what a model of many levels learns: QM9, the published sets and released labels as one.

Run: python analysis/pack_sets.py DATA models/relax-reach-1/sets [LABELS...]

DATA has the published sets (`diffrelax.data.published`), LABELS the parts of releases of labels.
Writes train.npz and validation.npz, which `training.data` in config.yaml names by their folder.
"""

import sys
from pathlib import Path

from diffrelax.data.published import load_published


def main(data: Path, folder: Path, *labels: Path) -> None:
    """Write both sets, and say what they have of each level."""
    sets = load_published(data, labels=labels)
    for split in ("train", "validation"):
        packed = sets[split]
        packed.save(folder / f"{split}.npz")
        for place, level in enumerate(packed.levels):
            print(f"{split}: {(packed.level == place).sum()} at {level}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
