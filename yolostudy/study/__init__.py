"""The course machine. To it, exercise modules are sources and observations are data: it could carry another course.

`edition` (a set of sources) <- `course` (where they lie) <- `overlay` (`use`), `author` (release, build, check).
"""
