"""Run the command line as `python -m clearinghouse`."""

from clearinghouse.cli import main

main()
