"""`nciihash demo`: the whole path on sample photos."""
