"""Named models, from studies: one file each, found through the registry."""
