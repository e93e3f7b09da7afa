"""Training engines side by side: one moment, the name of each engine for it, and its place in a trace."""
