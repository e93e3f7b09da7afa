"""Which key of a checkpoint goes where."""
