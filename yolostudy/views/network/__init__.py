"""Pictures of what `network` builds."""
