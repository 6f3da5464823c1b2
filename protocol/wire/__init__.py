"""The messages between processes, their encoding and their sockets."""
