"""Servers of connections with limits: streams, and HTTP."""
