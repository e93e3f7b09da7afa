"""Files that are replaced as a whole."""

import os
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Writes a file so that at every moment it holds either the old content or the new."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(draft, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())  # without it, a power cut could leave an empty file under the new name
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
