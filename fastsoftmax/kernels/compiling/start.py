"""Where the process was when this was imported: it may go elsewhere before its first call."""

import os

FOLDER = os.path.abspath(".")
