"""The processes that a client starts for one step."""
