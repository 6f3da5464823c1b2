"""`embedfleet search` and its prompt, and `embedfleet query-vectors`."""
