"""Uploads the shards of a source one by one, from any number of hosts, into one collection, and finishes it."""
