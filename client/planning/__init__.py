"""Plans a run before it begins: rows, tokens, bytes, memory, time and cost."""
