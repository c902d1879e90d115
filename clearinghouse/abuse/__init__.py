"""What keeps floods, oracles and poisoned submissions out."""
