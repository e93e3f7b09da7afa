"""Keypoints by heatmaps: peaks, tags and groups."""
