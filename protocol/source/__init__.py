"""The files of a source: find them, unpack them, and check that they are unchanged."""
