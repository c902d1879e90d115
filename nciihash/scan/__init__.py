"""Scans of stored files or hashes, in a folder or a bucket, on all cores or on a cluster."""
