"""For authors of the course: release the stubs, build the notebooks, check that all of it is fit to
ship.
"""
