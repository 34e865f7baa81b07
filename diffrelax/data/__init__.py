"""Sets of minima to learn from, read, paired and packed."""
