"""The one place that knows other frameworks' insides.

Tests, probes, runs and notebooks use it; exercise modules, views and hooks never do.
"""
