"""Sampling text from a network."""
