"""What a done run is exported to: a module a format, each streaming, each file committed whole."""
