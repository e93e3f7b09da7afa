"""What the modules of a network do: their shapes, the first that differs from another network's,
what memory they hold.
"""
