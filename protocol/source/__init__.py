"""The files of a source: found, unpacked, and known again."""
