"""Loading of PySCF with fast matrix products, and without settings from the working folder.

Import PySCF within `loading_pyscf`: the first import decides.
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
    """Set OpenBLAS to kernels for AVX2, and PySCF to the user's settings, while PySCF is imported.

    The OpenBLAS in PySCF's wheel (0.3.3) does not know processors made after 2018, and selects
    slower kernels without AVX2 for them. The kernels are set only if the processor has AVX2. PySCF
    runs ``.pyscf_conf.py`` as Python. Only the one in the home folder is used: one in the working
    folder may have come with data. Environment variables that are already set are kept.

    Raises
    ------
    NotInstalledError
        If PySCF is not installed.
    """
    of_user = Path(os.path.expanduser("~/.pyscf_conf.py"))  # relative without a home folder
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
    """Return the number of threads that PySCF uses."""
    with loading_pyscf():
        from pyscf.lib import num_threads

    return num_threads()


def pyscf_kernels() -> str:
    """Return the kernels that PySCF's OpenBLAS uses, such as Haswell; empty for another BLAS."""
    with loading_pyscf():
        from pyscf.lib.numpy_helper import _np_helper

    if not hasattr(_np_helper, "openblas_get_corename"):
        return ""
    kernels = _np_helper.openblas_get_corename
    kernels.restype = ctypes.c_char_p
    return kernels().decode()
