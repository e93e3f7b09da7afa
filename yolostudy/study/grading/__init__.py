"""For instructors: judge learners' packages, and report what was found."""
