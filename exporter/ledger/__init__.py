"""The state of each segment of a run, and the next actions: no I/O, no threads, no clock."""
