"""A worker: one process, one device, one model. It is pinned before torch is imported."""
