"""What files are, and what of them is read: no decoder is loaded here."""
