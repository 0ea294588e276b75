"""Estimators of the evidence: one file each, found through the registry."""
