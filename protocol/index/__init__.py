"""The searchable collection: its layout, its queries and the fusion of their results."""
