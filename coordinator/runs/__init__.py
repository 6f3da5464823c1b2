"""What one run needs beside the core: its exporter, its intake, its passes."""
