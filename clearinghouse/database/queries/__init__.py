"""All SQL queries of the service, in one small class per table family."""
