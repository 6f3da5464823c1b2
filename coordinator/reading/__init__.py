"""Reads records from the files of a source."""
