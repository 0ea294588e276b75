"""Gaussian processes to match priors to: one file each, found through the registry."""
