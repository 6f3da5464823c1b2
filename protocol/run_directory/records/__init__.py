"""The JSON files of a run directory, a typed record for each, used by its writer and its readers.

`docs/run-directory.md` explains each field. A field that an earlier version did not write is UNSET, and is not added when the
file is written again.
"""
