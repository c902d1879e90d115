"""Scans of what is stored already: a folder or a bucket, on all cores or on a cluster."""
