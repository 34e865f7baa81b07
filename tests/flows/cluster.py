"""A cluster of one machine: munge, Slurm, a database and the runner of jobflow-remote."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

CLUSTERS = Path(__file__).parents[2] / "workflows" / "clusters"
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "secantusd-py", "jf")
SCRIPTS = Path(sys.executable).parent


def missing_programs() -> list[str]:
    """Return what is not installed."""
    return [name for name in PROGRAMS if not _which(name)]


class Cluster:
    """Daemons in a folder, which all end with `stop`.

    Parameters
    ----------
    folder : path
        With a short name: sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "JFREMOTE_PROJECTS_FOLDER": str(folder / "projects"),
            "JFREMOTE_PROJECT": "single_node",
            "JFREMOTE_CONFIG_FILE": str(folder / "none.yaml"),
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}:/usr/sbin",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        controller, node, self.port = _free_ports(3)
        self.values = {
            "folder": folder,
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "controller_port": controller,
            "node_port": node,
            "port": self.port,
            "cpus": os.cpu_count(),
            "memory": 8000,
            "python": SCRIPTS,
        }

    def start(self) -> None:
        """Start everything but the runner."""
        for name in ("state", "spool", "jobs", "projects", "database"):
            (self.folder / name).mkdir()
        for source, target in (
            ("slurm.conf", "slurm.conf"),
            ("cgroup.conf", "cgroup.conf"),
            ("single_node.yaml", "projects/single_node.yaml"),
        ):
            text = (CLUSTERS / source).read_text(encoding="utf-8")
            for name, value in self.values.items():
                text = text.replace(f"{{{name}}}", str(value))
            (self.folder / target).write_text(text, encoding="utf-8")
        self._start_munge()
        self.run_daemon("slurmctld", "-D", "-c")
        self.wait_for(lambda: "UP" in self.call("scontrol", "ping", check=False))
        self.run_daemon("slurmd", "-D", "-N", "localhost")
        self.wait_for(lambda: "idle" in self.call("sinfo", "--noheader", check=False))
        database = ("--storage-path", str(self.folder / "database"), "--cache-size", "256M")
        self.run_daemon("secantusd-py", "--host", "127.0.0.1", "--port", str(self.port), *database)
        self.wait_for(lambda: _answers(self.port))
        self.call("jf", "admin", "reset", "-y", "-o")

    def start_runner(self) -> None:
        """Start the runner, in one process."""
        self.call("jf", "runner", "start", "-s")

    def kill_runner(self) -> None:
        """Kill the runner in whatever it does, with the process that looks after it."""
        for process in self._runner():
            process.kill()
            process.wait(10)

    def _runner(self) -> list[psutil.Process]:
        pid = self.folder / "jobflow-remote" / "daemon" / "supervisord.pid"
        if not pid.exists() or not psutil.pid_exists(number := int(pid.read_text())):
            return []
        supervisor = psutil.Process(number)
        return [supervisor, *supervisor.children(recursive=True)]

    def call(self, *command: str, check: bool = True) -> str:
        """Run a command in the cluster, and return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def running_jobs(self, name: str) -> list[str]:
        """Return the numbers of the jobs of Slurm that run and whose names begin so."""
        lines = self.call("squeue", "--noheader", "--states=RUNNING", "--format=%i %j").splitlines()
        return [line.split()[0] for line in lines if line.split(maxsplit=1)[1].startswith(name)]

    def run_daemon(self, name: str, *arguments: str, program: str = "") -> None:
        """Start a daemon that stays in the foreground."""
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [program or _which(name), *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait until something is the case; a daemon that has ended is an error."""
        end = time.monotonic() + seconds
        while not condition():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    log = (self.folder / f"{name}.out").read_text(encoding="utf-8")
                    raise RuntimeError(f"{name} ended with {daemon.returncode}: {log[-2000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s; logs are in {self.folder}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Cancel what runs, and end all daemons."""
        self.kill_runner()
        if "slurmd" in self.daemons:
            self.call("scancel", "--user", str(self.values["user"]), check=False)
            self.wait_for(lambda: not self.call("squeue", "--noheader", check=False))
        for daemon in reversed(self.daemons.values()):
            _end(daemon)

    def _start_munge(self) -> None:
        home = self.folder / "munge"
        home.mkdir(mode=0o700)
        arguments: Sequence[str] = (
            "--foreground",
            f"--key-file={home / 'key'}",
            f"--socket={self.folder / 'munge.socket'}",
            f"--pid-file={home / 'pid'}",
            f"--log-file={home / 'log'}",
            f"--seed-file={home / 'seed'}",
            "--force",
        )
        self.call(_which("mungekey"), "-c", "-k", str(home / "key"))
        self.run_daemon("munged", *arguments)
        self.wait_for((self.folder / "munge.socket").exists)


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


def _which(name: str) -> str:
    return shutil.which(name, path=f"{SCRIPTS}:{os.environ['PATH']}:/usr/sbin") or ""


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
