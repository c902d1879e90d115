"""The HTTP API: a module for each kind of client. These modules do not import each other."""
