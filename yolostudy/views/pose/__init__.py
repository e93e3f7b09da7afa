"""Keypoints by regression: how far off they are, and what that counts."""
