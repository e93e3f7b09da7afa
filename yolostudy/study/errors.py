"""What the course machine raises when somebody must put something right."""


class CourseError(ValueError):
    """Something in the course, or in what was asked of it, is wrong.

    The message says what, where, and what to do.
    """


class Refusal(CourseError):
    """Nothing was written; `diff` shows what would have been overwritten."""

    def __init__(self, message: str, diff: str = ""):
        super().__init__(message)
        self.diff = diff
