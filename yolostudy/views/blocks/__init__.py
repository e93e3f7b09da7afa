"""Pictures of what `blocks` builds."""
