"""Surveys a source for `embedfleet plan`: counts its records, and looks at an even sample of them."""
