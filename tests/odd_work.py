"""Work of the tests of processes, which import it by its name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from diffrelax.levels.running import run_program
from diffrelax.molecule import Molecule


def work(item: int | str | Path) -> int | str | Path:
    if item == "die":
        os._exit(1)
    if item == "fail":
        raise OSError("the disk is full")
    if item == "end of file":
        raise EOFError("as the disk is full")
    if isinstance(item, Path):
        time.sleep(5)
        item.touch()
    if isinstance(item, str) and item.startswith("run in "):
        run_program(["sh", "-c", "echo $$ > pid; exec sleep 60"], Path(item[7:]))
    if item == "abort":
        os.abort()
    if item == "sleep":
        time.sleep(60)
    if item == "pid":
        return os.getpid()
    return item


class Deadly(Molecule):
    """A molecule that ends the process to which it is sent."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)
