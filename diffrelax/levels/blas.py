"""The matrix products of PySCF's wheel.

PySCF is imported within `kernels_for_avx2`: what imports it first decides which kernels it has.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CHOICE = "OPENBLAS_CORETYPE"


@contextmanager
def kernels_for_avx2() -> Iterator[None]:
    """Let an OpenBLAS that is loaded meanwhile take its kernels for AVX2.

    The OpenBLAS in PySCF's wheel (0.3.3) knows no processor made after 2018: on those it takes
    kernels without AVX2, which multiply matrices at less than half the speed. Nothing is changed
    where the processor has no AVX2, or the environment has a choice already.
    """
    has_avx2 = CPUINFO.exists() and {"avx2", "fma"} <= set(CPUINFO.read_text().split())
    if not has_avx2 or CHOICE in os.environ:
        yield
        return
    os.environ[CHOICE] = "Haswell"
    try:
        yield
    finally:
        del os.environ[CHOICE]


def pyscf_threads() -> int:
    """Return the number of threads that PySCF takes."""
    with kernels_for_avx2():
        from pyscf.lib import num_threads

    return num_threads()


def pyscf_kernels() -> str:
    """Name the kernels that PySCF's OpenBLAS has taken, such as Haswell; empty for another BLAS."""
    with kernels_for_avx2():
        from pyscf.lib.numpy_helper import _np_helper

    if not hasattr(_np_helper, "openblas_get_corename"):
        return ""
    kernels = _np_helper.openblas_get_corename
    kernels.restype = ctypes.c_char_p
    return kernels().decode()
