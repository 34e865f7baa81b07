"""Training sets: minima paired with starts, in packed files."""
