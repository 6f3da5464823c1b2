"""Forward passes without padding, compiled by torch.compile for long passes on GPUs."""
