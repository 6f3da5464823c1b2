"""Places the shards of a source on the nodes of a Ray cluster."""
