"""Paired comparisons: of geometries against references, of starts for DFT, and of speed."""
