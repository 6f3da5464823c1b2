"""The exporter: the only writer of results. It assembles segments, commits them durably, and publishes the collection."""
