"""A stand-in for a Slurm cluster of this machine: the commands that submitit calls. Jobs start when they are let."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent
number = len(list(here.glob("*.job"))) + 1
text = Path(sys.argv[-1]).read_text()
array = re.search(r"#SBATCH --array=0-(\\d+)", text)
names = [f"{number}_{place}" for place in range(int(array.group(1)) + 1)] if array else [str(number)]
(here / f"{number}.job").write_text(" ".join(names))
for place, name in enumerate(names):
    ids = {"SLURM_JOB_ID": name, "SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(place)} if array else {
        "SLURM_JOB_ID": name}
    one = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
           "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here"}
    waits = f"while ! [ -e {here}/go ]; do sleep 0.1; done; bash {sys.argv[-1]}; touch {here}/{name}.over"
    subprocess.Popen(["bash", "-c", waits], env=os.environ | ids | one, start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(f"Submitted batch job {number}")
"""
SRUN = """
import os, subprocess, sys
words = sys.argv[1:]
output = subprocess.DEVNULL
while words[0].startswith("-"):
    option = words.pop(0)
    if option in ("--output", "--error"):
        path = words.pop(0)
        if option == "--output":
            for mark, name in (("%A", "SLURM_ARRAY_JOB_ID"), ("%a", "SLURM_ARRAY_TASK_ID"), ("%j", "SLURM_JOB_ID")):
                path = path.replace(mark, os.environ.get(name, ""))
            output = open(path.replace("%t", "0"), "a")
sys.exit(subprocess.call(words, stdout=output, stderr=output))
"""
SACCT = """
from pathlib import Path
here = Path(__file__).parent
print("JobID|State|NodeList")
for job in here.glob("*.job"):
    for name in job.read_text().split():
        state = "COMPLETED" if (here / f"{name}.over").exists() else "RUNNING" if (here / "go").exists() else "PENDING"
        print(f"{name}|{state}|here")
"""


class Slurm:
    """The commands in a folder, which `PATH` has to name first.

    Args:
        folder: a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
            (folder / name).write_text(f"#!{sys.executable}\n{text}")
            (folder / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}

    def start(self) -> None:
        """Let the jobs of the queue start."""
        (self.folder / "go").touch()

    @property
    def queued(self) -> list[str]:
        """The ids of all jobs that were ever queued."""
        return [name for job in sorted(self.folder.glob("*.job")) for name in job.read_text().split()]
