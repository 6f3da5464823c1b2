"""Requests and answers of the processes of `embedfleet plan`, and the table of GPUs."""
