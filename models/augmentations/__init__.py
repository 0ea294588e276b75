"""Augmentations: one file each, found through the registry."""
