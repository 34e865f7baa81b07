"""Finished units of results, and the one file of each folder that is committed.

Run: python analysis/pack_units.py analysis/results/dft_speedup [FOLDER...]

What is new in the store `units/` is added to `units.jsonl.gz` beside it. Scripts open the store by
`unpacked`, which adds to it what only the packed file has.
"""

import gzip
import json
import sys
import zlib
from pathlib import Path

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.store import Store, Unit

PACK, UNPACKED = "units.jsonl.gz", "unpacked"


def unpacked(folder: Path) -> Store:
    """Open the store of some results, which has what is packed, too."""
    store, file = Store.in_folder(folder / "units"), folder / PACK
    if file.exists():
        about = {"bytes": file.stat().st_size}
        if store.find(UNPACKED) != about:
            units = packed(folder).items()
            store.keep_all({key: unit for key, unit in units if store.find(key) is None})
            store.keep(UNPACKED, about, UNPACKED)
    return store


def packed(folder: Path) -> dict[str, Unit]:
    """Return the units in the packed file of some results; of two with one key, the later.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        with gzip.open(folder / PACK, "rt", encoding="utf-8") as lines:
            return {one["key"]: one["document"] for one in map(json.loads, lines)}
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        raise InputError(f"{folder / PACK} is damaged ({error}): restore or remove it") from error


def pack(folder: Path) -> int:
    """Add the units of the store to the packed file, and return how many it has.

    What the file has keeps its bytes, so that a repository stores of a new version only what is
    new: a gzip member at the end, molecule by molecule.
    """
    known, store = packed(folder), Store.in_folder(folder / "units")
    new = {key: unit for key, unit in store.each() if unit != known.get(key)}
    # neighbours that are alike take less room
    order = sorted(new, key=lambda key: (str(new[key].get("name", "")), key))
    lines = [
        json.dumps({"key": key, "document": new[key]}, ensure_ascii=False) + "\n" for key in order
    ]
    if lines:
        before = (folder / PACK).read_bytes() if known else b""
        with replacing(folder / PACK) as part:
            part.write_bytes(before + gzip.compress("".join(lines).encode(), mtime=0))
    return len(known | new)


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        print(f"{pack(folder)} units in {folder / PACK}")
