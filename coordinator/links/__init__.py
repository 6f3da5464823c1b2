"""Conversations with clients, workers, hosts and exporters."""
