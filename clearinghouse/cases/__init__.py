"""A survivor's cases, from opening to withdrawal, and how their holders prove themselves."""
