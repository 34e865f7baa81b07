"""What a store has, as another process sees it."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path


def kinds(folder: Path) -> Counter[str]:
    """Count the units in a folder by kind, of DFT relaxations without what they are of."""
    path = folder / "units.sqlite"
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(path, timeout=60)) as store:
        return Counter(kind.split()[0] for (kind,) in store.execute("SELECT kind FROM units"))
