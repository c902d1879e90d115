"""Run the command line as `python -m clearinghouse`."""

from clearinghouse.cli.app import main

main()
