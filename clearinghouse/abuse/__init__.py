"""Defences against floods, hash oracles and poisoned submissions."""
