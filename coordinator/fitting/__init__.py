"""Figures of a whole source that its shards must share."""
