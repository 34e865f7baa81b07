"""Pack what a model of many levels learns: QM9, the published sets and released labels as one.

Run: python analysis/pack_sets.py DATA models/relax-reach-1/sets [LABELS...] [--starts STARTS]

DATA has the published sets (`published`), LABELS the parts of releases of labels,
STARTS what make_starts.py has made.
Writes train.npz and validation.npz, which `training.data` in config.yaml names by their folder.
"""

import argparse
from pathlib import Path

from published import load_published


def main() -> None:
    """Write both sets, and print what they have of each level."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", type=Path, nargs="*")
    parser.add_argument("--starts", type=Path)
    options = parser.parse_args()
    sets = load_published(options.data, labels=options.labels, starts=options.starts)
    for split in ("train", "validation"):
        packed = sets[split]
        packed.save(options.folder / f"{split}.npz")
        for place, level in enumerate(packed.levels):
            for kind, start in enumerate(packed.start_levels):
                n = ((packed.level == place) & (packed.start_level == kind)).sum()
                print(f"{split}: {n} at {level} from {start}")


if __name__ == "__main__":
    main()
