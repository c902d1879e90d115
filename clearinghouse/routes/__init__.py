"""The doors, one file each. Survivors' and platforms' never import one another."""
