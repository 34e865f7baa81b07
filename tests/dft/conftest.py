"""The optimizers that are installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

OPTIMIZERS = ["bfgs", "tric", "geometric", *(["sella"] if find_spec("sella") else [])]


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request: pytest.FixtureRequest) -> str:
    return request.param
