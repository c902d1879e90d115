"""All SQL of the service: one small class for each family of tables."""
