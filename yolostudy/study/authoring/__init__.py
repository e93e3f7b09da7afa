"""For authors of the course: release the stubs, build the notebooks, check both."""
