"""Platforms: keys, feed, matching, verdicts, contributions."""
