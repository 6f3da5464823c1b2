"""Uploads a finished run to a Qdrant server."""
