"""Pictures and benches for what `boxes` computes."""
