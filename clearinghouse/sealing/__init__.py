"""Encryption at rest: values sealed under a master key, with keyed digests for lookups."""
