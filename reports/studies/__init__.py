"""Studies of published work: one file each, found through the registry."""
