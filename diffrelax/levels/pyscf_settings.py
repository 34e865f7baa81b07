"""Settings of PySCF, in the place of those that it would run from the working folder: none."""
