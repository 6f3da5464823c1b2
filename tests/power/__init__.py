"""A model of the power cut, and the commit path run under it."""
