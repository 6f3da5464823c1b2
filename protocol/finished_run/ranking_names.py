"""Names of the orders that are made of all signals."""

FUSED, RERANK = "fused", "rerank"
