"""The survivor's page: its files, and how they become one."""
