"""The JSON files of a run directory: one typed record for each, used by its writer and by every reader. `docs/run-directory.md`
has the meaning of each field. A field that an earlier version did not write is UNSET, and stays out when it is written again.
"""
