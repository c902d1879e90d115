"""The survivor's page: its files, and the build of the single file."""
