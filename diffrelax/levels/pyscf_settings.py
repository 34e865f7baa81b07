"""Empty settings for PySCF, in place of a ``.pyscf_conf.py`` in the working folder."""
