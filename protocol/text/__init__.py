"""Small pure functions over texts, on which several processes must agree."""
