"""Noise levels in Å, the denoiser, and the samplers that use it."""
