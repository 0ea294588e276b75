"""Likelihoods: one file each, found through the registry."""
