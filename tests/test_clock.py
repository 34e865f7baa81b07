from __future__ import annotations

import subprocess
import sys
import time

import pytest

from diffrelax.clock import Time

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_sleep_takes_wall_time_only() -> None:
    begun = Time.now()
    time.sleep(0.2)
    spent = Time.now() - begun
    assert spent.wall >= 0.2 > 0.1 > spent.processor


def test_programs_count_in_processor_time() -> None:
    begun = Time.now()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    spent = Time.now() - begun
    assert 0.27 <= spent.processor < spent.wall + 0.1  # programs are timed to 0.01 s


def test_times_add_up() -> None:
    total = Time(3.0, 2.0) + (Time(5.0, 1.0) - Time(1.0, 0.5))
    assert total == Time(7.0, 2.5)
    assert total / 2 == Time(3.5, 1.25)
    assert sum([total, total], Time()).wall == pytest.approx(14.0)
