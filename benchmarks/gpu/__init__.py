"""The stages of `gpu_suite.py`, by concern."""
