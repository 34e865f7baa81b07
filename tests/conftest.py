import pytest

from diffrelax.models import load_model


@pytest.fixture(scope="session")
def model():
    """The released relaxation model."""
    return load_model("relax-qm9-1")
