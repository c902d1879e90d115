"""The command line `clearinghouse`."""
