"""The parts of one run beside the core: its exporter, its intake, its passes."""
