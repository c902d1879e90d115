"""Run the command line as `python -m nciihash`."""

from nciihash.cli.app import main

main()
