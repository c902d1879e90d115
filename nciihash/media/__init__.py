"""File formats, structure checks and limits; no decoder is loaded here."""
