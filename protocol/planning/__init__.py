"""What the processes of `embedfleet plan` tell each other, and the table of GPUs."""
