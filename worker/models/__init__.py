"""Finds a model folder and checks that it can be used, without torch where possible."""
