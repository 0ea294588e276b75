"""Networks of the zoo: one file each, found through the registry."""
