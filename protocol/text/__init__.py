"""Small pure functions over texts, shared by several processes."""
