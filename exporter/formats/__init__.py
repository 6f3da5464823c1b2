"""The files that `embedfleet export` writes."""
