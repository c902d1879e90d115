"""`nciihash demo`: the whole process on sample photos."""
