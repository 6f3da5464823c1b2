"""The steps of a command: run, retrieval, export."""
