"""Paired comparisons of DFT relaxations from several starts."""
