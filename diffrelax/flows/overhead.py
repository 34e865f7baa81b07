"""An empty job with which ``workflows/overhead.py`` measures the overhead of jobs."""

from __future__ import annotations

import time

from jobflow import job


@job
def start_up() -> dict[str, float]:
    """Return the age and the processor time of this process, s."""
    from psutil import Process

    age = time.time() - Process().create_time()
    return {"seconds": age, "processor_seconds": time.process_time()}
