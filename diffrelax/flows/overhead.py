"""A job that does nothing, by which ``workflows/overhead.py`` measures what a job costs."""

from __future__ import annotations

import time

from jobflow import job


@job
def start_up() -> dict[str, float]:
    """Do nothing, and tell the age of this process and the processor time that it took, in s."""
    from psutil import Process

    age = time.time() - Process().create_time()
    return {"seconds": age, "processor_seconds": time.process_time()}
