"""What is printed: numbers, lines and progress."""
