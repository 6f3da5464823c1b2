"""Statistics of passes and runs, which can be added up."""
