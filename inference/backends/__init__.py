"""Inference backends: one file each, found through the registry."""
