"""What all commands have in common: flags of the output, panels and examples of the help."""
