"""What the charity does to the database, or the service by the hour."""
