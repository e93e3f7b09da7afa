"""Pictures of a measurement."""
