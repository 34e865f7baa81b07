"""What a store has, as another process sees it."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path


def kinds(place: Path) -> Counter[str]:
    """Count the units in a store or a folder by kind, of DFT's states without what they are of."""
    path = place / "units.sqlite" if place.is_dir() else place
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(path, timeout=60)) as store:
        if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'units'").fetchone():
            return Counter()  # its writer has only begun
        return Counter(kind.split()[0] for (kind,) in store.execute("SELECT kind FROM units"))
