"""Where each segment of a run stands, and what is to be done next: no I/O, no threads, no clock."""
