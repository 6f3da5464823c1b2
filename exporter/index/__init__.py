"""The embedded shard."""
