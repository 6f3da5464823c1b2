"""How vectors are stored and derived from other vectors."""
