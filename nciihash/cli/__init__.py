"""The command line `nciihash`."""
