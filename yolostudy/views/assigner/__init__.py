"""The assigner, step by step."""
