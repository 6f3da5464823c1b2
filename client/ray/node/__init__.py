"""What runs on a node: a process with one coordinator, which embeds one shard after another."""
