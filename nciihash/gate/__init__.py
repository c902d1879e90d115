"""The gate: a local service that checks uploads in the protocols that platforms already speak."""
