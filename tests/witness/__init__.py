"""Run directories of earlier releases, kept as they were written, and what tries them on today's code."""
