"""The protocols in which uploads arrive, one module each, and what they share."""
