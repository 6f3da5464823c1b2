"""Builds vector segments and writes them."""
