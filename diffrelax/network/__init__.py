"""The E(3)-equivariant network."""
