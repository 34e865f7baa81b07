"""Many geometries of a molecule: conformers, samples at a temperature, and their record."""
