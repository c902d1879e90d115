"""Exact search: an index of hashes in memory or in a mapped file, and its compiled kernel."""
