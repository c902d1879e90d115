"""The database: engines, tables, queries, transactions, and the journal for restores."""
