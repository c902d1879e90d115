"""The database: tables, statements, transactions, and what lies outside for a restore."""
