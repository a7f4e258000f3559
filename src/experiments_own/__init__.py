"""The files that EXPERIMENTS_COMPONENTS names, as modules: another process can import what it unpickles.

It is a package of its own, since the import of `experiments_own.NAME` imports it first, in any process.
"""

import sys

from experiments.config.discovery import OwnFiles

sys.meta_path.insert(0, OwnFiles())  # before the finder of files, which would import them once more
