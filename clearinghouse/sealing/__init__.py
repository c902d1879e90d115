"""Values at rest: sealed under a master key, and found again by keyed digests."""
