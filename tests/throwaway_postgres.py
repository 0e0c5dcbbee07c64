"""A PostgreSQL server with PostGIS for tests and benchmarks, gone when they end.

::

    with start_server() as server:            # or open_server(): STGRAPH_TEST_DSN when set
        dsn = server.create_database()        # fresh, with PostGIS
        server.cluster.restart("immediate")   # as after a crash
"""

from __future__ import annotations

import atexit
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import psycopg
from postgres_programs import Programs, need_programs
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PREFIX = "stgraph-pg-"
ACCOUNTS = ("postgres", "nobody")  # whom root lends the server to, the first that exists
SOCKET_BYTES = 107  # the longest path of a unix socket
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

Mode = Literal["smart", "fast", "immediate"]


def open_server() -> Server:
    """Return the server that STGRAPH_TEST_DSN names, or else a throw-away one."""
    dsn = os.environ.get("STGRAPH_TEST_DSN", "")
    return Server(dsn) if dsn else start_server()


def start_server(
    *,
    durable: bool = False,
    settings: Mapping[str, str] | None = None,
    account: str | None = None,
    parent: Path | None = None,
) -> Server:
    """Make and start a throw-away cluster, with or without waiting for the disk.

    Parameters
    ----------
    durable
        True keeps PostgreSQL's own ``fsync``, ``synchronous_commit`` and ``full_page_writes``,
        for crash tests and benchmarks; False switches them off.
    settings
        Further settings of the server, name to value.
    account
        The user it runs as when we are root; None takes `postgres`, else `nobody`.
    parent
        The folder of its folder, which the account must be able to enter; None takes the
        folder for temporary files, or /tmp.

    Raises
    ------
    PostgresMissingError
        No PostgreSQL with PostGIS here; the text has the two commands to run.
    RuntimeError
        It does not start; the text has what the server said.
    """
    values = {**({} if durable else FAST), **(settings or {})}
    cluster = Cluster(need_programs(), settings=values, account=account, parent=parent)
    return Server(cluster.dsn(), cluster)


class Server:
    """A server that takes databases; `cluster` is None when it is not ours to stop."""

    def __init__(self, admin: str, cluster: Cluster | None = None) -> None:
        self.admin = admin  # DSN of a role that may create databases
        self._cluster = cluster
        self._template = ""
        self._made: list[str] = []
        self._process = os.getpid()
        atexit.register(self.close)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether it is a throw-away one, which may be stopped."""
        return self._cluster is not None

    @property
    def cluster(self) -> Cluster:
        """The processes and files of a throw-away server."""
        if self._cluster is None:
            raise RuntimeError("the server of STGRAPH_TEST_DSN is not ours to stop")
        return self._cluster

    def dsn(self, database: str, user: str | None = None) -> str:
        """Return the DSN of a database, for the administrator or another role."""
        return make_conninfo(self.admin, dbname=database, **({"user": user} if user else {}))

    def create_database(self, name: str | None = None, *, postgis: bool = True) -> str:
        """Make a database, with PostGIS or empty, and return its DSN; None invents a name."""
        name = name or _invent_name()
        self._create(name, self._need_template() if postgis else None)
        return self.dsn(name)

    def drop_database(self, name_or_dsn: str) -> None:
        """Drop a database of this server, even while somebody is in it."""
        name = name_or_dsn
        if "=" in name or "://" in name:
            name = str(conninfo_to_dict(name)["dbname"])
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        self._made = [made for made in self._made if made != name]

    def close(self) -> None:
        """Remove the throw-away server, or from another one the databases made here."""
        atexit.unregister(self.close)
        if os.getpid() != self._process:
            return  # a forked child leaves it to its parent
        if self._cluster is not None:
            self._cluster.remove()
        else:
            for name in list(self._made):
                self.drop_database(name)
        self._made.clear()

    def _need_template(self) -> str:
        """Return the database that others are copied from: PostGIS takes a second to install."""
        if not self._template:
            name = _invent_name()
            self._create(name, None)
            with psycopg.connect(self.dsn(name), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS postgis")
            self._template = name
        return self._template

    def _create(self, name: str, template: str | None) -> None:
        if template is None:
            self._execute("CREATE DATABASE {}", name)
        else:
            # copying files is three times as fast; on a server of others it costs a checkpoint
            copies = self._cluster is not None and self._cluster.programs.major >= 15
            strategy = " STRATEGY FILE_COPY" if copies else ""
            self._execute(f"CREATE DATABASE {{}} TEMPLATE {{}}{strategy}", name, template)
        self._made.append(name)

    def _execute(self, statement: str, *names: str) -> None:
        identifiers = [sql.Identifier(name) for name in names]
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*identifiers))


class Cluster:
    """The files and processes of a throw-away server."""

    def __init__(
        self,
        programs: Programs,
        *,
        settings: Mapping[str, str],
        account: str | None = None,
        parent: Path | None = None,
    ) -> None:
        self.programs = programs
        self._account = _choose_account(account)
        parent = parent.resolve() if parent else _choose_parent(self._account)
        remove_leftovers(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = _hold(self.folder)
        self.data = self.folder / "data"
        self.port = 0
        try:
            if self._account is not None:
                os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
            self._make(settings)
            self.start()
        except BaseException:
            self.remove()
            raise

    def dsn(self, database: str = "postgres", user: str = "postgres", *, tcp: bool = False) -> str:
        """Return a DSN by the unix socket, or by TCP on 127.0.0.1."""
        host = "127.0.0.1" if tcp else str(self.folder)
        return make_conninfo(host=host, port=self.port, dbname=database, user=user)

    @property
    def pid(self) -> int | None:
        """The process that has the data open, None when none has."""
        return _server_of(self.data)

    @property
    def log(self) -> str:
        """What the server has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def start(self) -> None:
        """Start the server and wait until it answers; the port stays that of the first start."""
        first = not self.port
        for _ in range(10):
            # another program may take a free port before we do
            port = _free_port() if first else self.port
            done = self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l",
                             str(self.folder / "log"), "-o", f"-p {port}")  # fmt: skip
            if done.returncode == 0:
                self.port = port
                return
            if first and "TCP/IP" not in self.log:
                break
            time.sleep(0.3)  # a killed server's memory is freed a moment later
        raise RuntimeError(f"the server does not start: {done.stdout}{self.log[-3000:]}")

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server: `fast` writes everything down, `immediate` is like a crash."""
        if self.pid is None:
            return
        done = self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))
        if done.returncode and self.pid is not None:
            raise RuntimeError(f"the server does not stop: {done.stderr}{self.log[-3000:]}")

    def kill(self) -> None:
        """Kill the server's first process with SIGKILL; the others end by themselves."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)

    def restart(self, mode: Mode = "immediate") -> None:
        """Stop and start again on the same port; `immediate` makes it recover."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server and delete its files; a second call does nothing."""
        if self._lock.closed:
            return
        _remove(self.folder)
        self._lock.close()

    def _make(self, settings: Mapping[str, str]) -> None:
        """Make the files of a new cluster: UTF-8, UTC, no passwords."""
        done = self._run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8",
                         f"--locale={_choose_locale()}", "-D", str(self.data))  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"initdb failed in {self.folder}: {done.stderr or done.stdout}")
        values = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "timezone": "UTC",
            "log_timezone": "UTC",
            **settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in values.items():
                file.write("{} = '{}'\n".format(name, value.replace("'", "''")))

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL, as the unprivileged account when we are root."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        account = self._account
        return subprocess.run(
            [str(self.programs.folder / program), *arguments],
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            env=environment | {"LC_ALL": "C", "HOME": str(self.folder)},
            cwd=self.folder, umask=0o077, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=180,
        )  # fmt: skip


def remove_leftovers(parent: Path) -> None:
    """Stop and delete the clusters of runs that were killed; those in use are locked."""
    ours = {os.geteuid()}
    if os.geteuid() == 0:
        ours |= {entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in ACCOUNTS}
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.lstat().st_uid not in ours or folder.is_symlink():
                continue
            with (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        except OSError:  # in use, just being made, or just being removed
            continue


def _hold(folder: Path) -> IO[bytes]:
    """Lock the folder for as long as this process lives."""
    new = folder / "lock.new"
    lock = new.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / "lock")  # whoever sees it finds it locked
    return lock


def _remove(folder: Path) -> None:
    """Stop what runs in a cluster's folder, without ceremony, and delete it."""
    if (pid := _server_of(folder / "data")) is not None:
        os.kill(pid, signal.SIGQUIT)  # what `immediate` sends
        deadline = time.monotonic() + 20
        while _server_of(folder / "data") is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


def _server_of(data: Path) -> int | None:
    """Return the process of the server in a data folder, None when the pid is stale."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        # a pid alone may be another program's by now
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return pid if os.fsencode(data) in arguments else None
    except (OSError, ValueError, IndexError):
        return None


def _choose_account(name: str | None) -> pwd.struct_passwd | None:
    """Return whom the server runs as when we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for candidate in ACCOUNTS if name is None else (name,):
        if candidate in known and known[candidate].pw_uid != 0:
            return known[candidate]
    raise RuntimeError(f"none of the users {ACCOUNTS} exists; run the tests as another than root")


def _choose_parent(account: pwd.struct_passwd | None) -> Path:
    """Return a folder with a short path that the account can enter."""
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):
        path_bytes = len(f"{parent}/{PREFIX}12345678/.s.PGSQL.65535".encode())
        enterable = all(p.stat().st_mode & stat.S_IXOTH for p in (parent, *parent.parents))
        if path_bytes <= SOCKET_BYTES and (account is None or enterable):
            return parent
    raise RuntimeError("no folder for the server: set TMPDIR to one that everybody can enter")


def _choose_locale() -> str:
    """Return C.UTF-8, which knows letters beyond ASCII, where the system has it; else C."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    return "C.UTF-8" if "C.utf8" in known or "C.UTF-8" in known else "C"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _invent_name() -> str:
    return f"stgraph_test_{secrets.token_hex(6)}"
