"""Exact search: an index of hashes in memory or in a file, and its compiled kernel."""
