"""The edges of the HTTP server: bounds, headers, logs, and no decoder."""
