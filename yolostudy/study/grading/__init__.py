"""Judging other people's answers: a sandbox, the notebooks under nbval, reports."""
