"""Paired comparisons of geometries with references, and of starts for DFT."""
