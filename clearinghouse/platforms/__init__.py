"""What platforms ask, are told and add."""
