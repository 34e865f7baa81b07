"""Training sets: minima, paired with starts and packed."""
