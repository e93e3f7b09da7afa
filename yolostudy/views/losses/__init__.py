"""Where a loss comes from."""
