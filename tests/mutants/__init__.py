"""Defects put into the core and the commit path on purpose; the tests have to notice each."""
