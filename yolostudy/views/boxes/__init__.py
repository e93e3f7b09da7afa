"""Pictures and widgets for what `boxes` computes."""
