"""Who called whom: the tree of a recorded call, as text, as a picture, to browse."""
