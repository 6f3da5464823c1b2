"""The models of the catalogue: what they are, whether they are on this host, and how they come there."""
