"""Real processes, killed, stopped and starved at random; `make chaos` runs the long form."""
