"""The one place that knows other frameworks' insides: tests, probes, notebooks and benchmarks use
it, exercise modules never do.
"""
