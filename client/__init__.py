"""What people use: the client, the command line, and readers of a run. No torch; what is heavy is imported late."""
