"""Child processes, standard streams and socket folders."""
