"""A cluster of one machine, as workflows/clusters/single_node.sh starts it, in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from source_tree import ROOT

SCRIPT = ROOT / "workflows" / "clusters" / "single_node.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "secantusd-py", "jf")
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"


def missing_programs() -> list[str]:
    """Return what is not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


class Cluster:
    """Munge, Slurm and a database, and the runner of jobflow-remote.

    Parameters
    ----------
    folder : path
        With a short name: sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = zip(("CONTROLLER_PORT", "NODE_PORT", "DATABASE_PORT"), _free_ports(3), strict=True)
        self.environment = os.environ | {
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "JFREMOTE_PROJECTS_FOLDER": str(folder / "projects"),
            "JFREMOTE_PROJECT": "single_node",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "COLUMNS": "200",
            **{name: str(port) for name, port in ports},
        }

    def start(self) -> None:
        """Start everything but the runner."""
        self.call("bash", str(SCRIPT), "start", str(self.folder))

    def stop(self) -> None:
        """Stop everything."""
        self.kill_runner()
        self.call("bash", str(SCRIPT), "stop", str(self.folder))

    def start_runner(self) -> None:
        """Start the runner, in one process, unless it runs."""
        if not self._runner():
            self.call("jf", "runner", "start", "-s")

    def kill_runner(self) -> None:
        """Kill the runner in whatever it does, with the process that looks after it."""
        for process in self._runner():
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(10)

    def call(self, *command: str) -> str:
        """Run a command in the cluster, and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def running_jobs(self, name: str) -> list[str]:
        """Return the numbers of the jobs of Slurm that run and whose names begin so."""
        lines = self.call("squeue", "--noheader", "--states=RUNNING", "--format=%i %j").splitlines()
        return [line.split()[0] for line in lines if line.split(maxsplit=1)[1].startswith(name)]

    def ended_jobs(self) -> str:
        """Return what Slurm wrote down of the jobs that have ended, one line each."""
        log = self.folder / "jobs.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def _runner(self) -> list[psutil.Process]:
        pid = self.folder / "jobflow-remote" / "daemon" / "supervisord.pid"
        if not pid.exists() or not psutil.pid_exists(number := int(pid.read_text())):
            return []
        supervisor = psutil.Process(number)
        return [supervisor, *supervisor.children(recursive=True)]


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster for as long as the context lasts."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
