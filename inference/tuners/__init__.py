"""Ways to tune hyper-parameters: one file each, found through the registry."""
