"""Run the command line as `python -m nciihash`."""

from nciihash.cli import main

main()
