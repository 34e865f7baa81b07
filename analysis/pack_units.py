"""Pack the finished units of results into the one file of each that is committed.

Run: python analysis/pack_units.py analysis/results/dft_speedup [FOLDER...]

What is new in the folder `units` is added to `units.jsonl.gz` beside it.
"""

import sys
from pathlib import Path

from diffrelax.cache import WorkFolder

for folder in map(Path, sys.argv[1:]):
    n = WorkFolder(folder / "units").pack()
    print(f"{n} units in {folder / 'units.jsonl.gz'}")
