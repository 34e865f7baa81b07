"""How PySCF is loaded: with which matrix products, and without what lies in the working folder.

It is imported within `loading_pyscf`: what imports it first decides.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffrelax.extras import NotInstalledError

CPUINFO = Path("/proc/cpuinfo")
CHOICE = "OPENBLAS_CORETYPE"
SETTINGS, NO_SETTINGS = "PYSCF_CONFIG_FILE", "pyscf_settings.py"


@contextmanager
def loading_pyscf() -> Iterator[None]:
    """Let an OpenBLAS that is loaded meanwhile take its kernels for AVX2, and PySCF its settings.

    The OpenBLAS in PySCF's wheel (0.3.3) knows no processor made after 2018: on those it takes
    kernels without AVX2, which multiply matrices at less than half the speed. Nothing is changed
    where the processor has no AVX2. PySCF runs ``.pyscf_conf.py`` as Python: here that of the home
    folder alone, as one in the working folder may have come with data. What the environment has
    chosen stays.

    Raises
    ------
    NotInstalledError
        If PySCF is not installed.
    """
    of_user = Path(os.path.expanduser("~/.pyscf_conf.py"))  # relative where nobody has a home
    known = of_user.is_absolute() and of_user.is_file()
    wanted = {SETTINGS: str(of_user if known else Path(__file__).with_name(NO_SETTINGS))}
    if CPUINFO.exists() and {"avx2", "fma"} <= set(CPUINFO.read_text(encoding="utf-8").split()):
        wanted[CHOICE] = "Haswell"
    added = wanted.keys() - os.environ.keys()
    os.environ.update({key: wanted[key] for key in added})
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyscf":
            raise
        raise NotInstalledError(
            "PySCF is not installed: pip install pyscf, in WSL on Windows; or take another program "
            "or an ASE calculator"
        ) from error
    finally:
        for key in added:
            del os.environ[key]


def pyscf_threads() -> int:
    """Return the number of threads that PySCF takes."""
    with loading_pyscf():
        from pyscf.lib import num_threads

    return num_threads()


def pyscf_kernels() -> str:
    """Name the kernels that PySCF's OpenBLAS has taken, such as Haswell; empty for another BLAS."""
    with loading_pyscf():
        from pyscf.lib.numpy_helper import _np_helper

    if not hasattr(_np_helper, "openblas_get_corename"):
        return ""
    kernels = _np_helper.openblas_get_corename
    kernels.restype = ctypes.c_char_p
    return kernels().decode()
