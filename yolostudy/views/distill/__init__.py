"""Teacher and student beside each other."""
