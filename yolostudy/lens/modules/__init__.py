"""What the modules of a network do: their shapes, differences and memory."""
