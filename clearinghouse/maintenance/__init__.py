"""Operations on the whole database: backup, key rotation, purge, transparency counts."""
