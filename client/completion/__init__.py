"""What a shell offers while a command is typed. Nothing heavy is imported: an answer takes less than 0.2 s."""
