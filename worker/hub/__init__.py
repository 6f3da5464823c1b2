"""What clients ask of the Hugging Face hub, each in a process of its own."""
