"""The coordinator: reads chunks, leases devices, streams batches, forwards results. It imports no torch."""
