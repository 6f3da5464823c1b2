"""What a host has: cores and memory that are free, the GPUs' driver, caches of models."""
