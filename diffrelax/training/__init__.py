"""Training: data, loss, loop and configuration."""
