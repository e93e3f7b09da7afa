"""Detections painted into pictures, and pictures to browse."""
