"""Where a scenario works: a folder of its own, and the programs that were built."""

import os
import subprocess

from .writer import CrashLog, ENVIRONMENT


class Workplace:
    """A folder of a scenario's own, and where the products are."""

    def __init__(self, products, folder, rounds):
        self.products, self.folder, self.rounds = products, folder, rounds

    def path(self, name):
        return os.path.join(self.folder, name)

    def log(self, root, path="automatic"):
        return CrashLog(self.products, self.folder, root, path)

    def walctl(self, *arguments, **options):
        return subprocess.run(
            [os.path.join(self.products, "walctl"), *arguments], capture_output=True, text=True, env=ENVIRONMENT,
            timeout=120, **options)
