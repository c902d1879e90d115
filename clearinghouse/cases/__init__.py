"""Survivors' cases, from opening to withdrawal, and the credentials of their holders."""
