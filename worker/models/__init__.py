"""Find a model's folder and check that it can be used, without torch where possible."""
