"""Hosts, their devices, and the worker processes that lease them."""
