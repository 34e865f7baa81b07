"""Released models: found, verified and loaded; what they cover."""
