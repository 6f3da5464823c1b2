"""Makes chunks of records and writes them in segments."""
