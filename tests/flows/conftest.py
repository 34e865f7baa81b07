import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread():
    """Molecules this small gain nothing from more threads, and lose much beside other work."""
    with threadpool_limits(1):
        yield
