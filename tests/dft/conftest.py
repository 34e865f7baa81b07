"""The optimizers that are installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from diffrelax.dft import optimizers

INSTALLED = [name for name in optimizers.OPTIMIZERS if name != "sella" or find_spec("sella")]


@pytest.fixture(params=INSTALLED)
def optimizer(request: pytest.FixtureRequest) -> str:
    return request.param
