"""A Python and a DVC for the tests' processes that have the large packages imported already.

Importing torch, transformers, trl and peft takes a process 3 to 15 seconds, most of what a stage
of a tiny workflow takes. Here one process imports them once. `python` and `dvc`, small programs
that are first in PATH, let it fork a child that runs the command in the caller's folder, with its
environment, its input and output. The project's own modules are imported by the child. Where a
fork could falsify something (settings that are read by an import), the real Python runs. That
each stage imports what it uses is shown by `make repro`, which has nothing of this.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import random
import runpy
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

PACKAGES = [
    "aiohttp.web", "altair", "bitsandbytes", "datasets", "dvc.cli.parser", "dvc.repo",
    "dvc.commands.repro", "dvc.commands.experiments.run", "dvc_data.index", "gensim.models",
    "gguf", "openai", "openpyxl", "pandas", "peft", "rich.console", "ruamel.yaml",
    "safetensors.torch", "scipy.stats", "sentence_transformers", "statsmodels.stats.multitest",
    "torch", "transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama",
    "trl.trainer.dpo_trainer", "typer", "vl_convert",
]  # fmt: skip
# Settings that are read when a package is imported, or by Python itself.
FIXED = ("HF_", "TRANSFORMERS_", "OMP_", "ATEN_", "ONEDNN_", "MKL_", "PYTHON", "LC_", "LANG")
ADDRESS = "WARM_PYTHON"
AT_THE_START: dict[str, str] = {}

CLIENT = f"""\
#!{sys.executable} -IS
import json, os, signal, socket, sys

arguments = sys.argv[1:]
if os.path.basename(sys.argv[0]) == "dvc":
    arguments = ["-m", "dvc", *arguments]

def real():
    os.execv({sys.executable!r}, [{sys.executable!r}, *arguments])

server = socket.socket(socket.AF_UNIX)
try:
    server.connect(os.environ[{ADDRESS!r}])
except (KeyError, OSError):
    real()
request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
child = int.from_bytes(server.recv(4), "big")
if not child:
    real()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(child, number))
os._exit((server.recv(1) or b"\\x46")[0])
"""


@functools.cache
def warm_python() -> str:
    """The client's path; the first call starts the server and puts the client first in PATH.

    Processes that are started later take the same server.
    """
    if ADDRESS in os.environ:
        return str(Path(os.environ[ADDRESS]).with_name("python"))
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("python", "dvc"):
        (folder / name).write_text(CLIENT)
        (folder / name).chmod(0o755)
    os.environ[ADDRESS] = str(folder / "socket")
    paths = [folder, Path(sys.executable).parent, os.environ["PATH"]]
    os.environ["PATH"] = os.pathsep.join(map(str, paths))
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.DEVNULL)
    atexit.register(server.kill)
    while not Path(os.environ[ADDRESS]).exists():
        time.sleep(0.05)
    return str(folder / "python")


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks a child per request, and ends with the process that started it."""

    request_queue_size = 64
    max_children = 64
    parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            sys.exit()


class Handler(socketserver.BaseRequestHandler):
    """Runs a command in the child that it is."""

    def handle(self) -> None:
        length, files, *_ = socket.recv_fds(self.request, 4, 3)
        request = b""
        while len(request) < int.from_bytes(length, "big"):
            request += self.request.recv(1 << 16)
        arguments, folder, environment = json.loads(request)
        if arguments[0] == "-u":  # as torch's launcher says; a line is written as it ends
            del arguments[0]
        option = arguments[0]
        known = option in ("-m", "-c") or option.endswith(".py")
        if not known or _fixed(environment) != AT_THE_START:
            self.request.sendall(bytes(4))
            return
        self.request.sendall(os.getpid().to_bytes(4, "big"))
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        # a caller that is killed takes the child with it
        threading.Thread(target=self._end_with_caller, daemon=True).start()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        random.seed()
        sys.stdout.reconfigure(line_buffering=True)
        code = _run(arguments)
        self.request.sendall(bytes([code % 256]))

    def _end_with_caller(self) -> None:
        if not self.request.recv(1):
            os._exit(9)


def _fixed(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """What must be as it was when the packages were imported."""
    settings = {k: v for k, v in environment.items() if k.startswith(FIXED)}
    paths = settings.get("PYTHONPATH", "").split(os.pathsep)
    if not any(Path(path, "sitecustomize.py").exists() for path in paths if path):
        settings.pop("PYTHONPATH", None)
    settings.pop("PYTHON_EXEC", None)  # what torch's launcher starts
    return settings


def _run(arguments: list[str]) -> int:
    """Run a module, a text or a file as Python does; gives the exit status."""
    option, *rest = arguments
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = str(Path(option).parent) if option.endswith(".py") else str(Path.cwd())
    sys.path[:1] = [own, *(path for path in paths if path)]
    try:
        if option == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            sys.argv = [option, *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            runpy.run_path(option, run_name="__main__")
        code = 0
    except SystemExit as end:
        if isinstance(end.code, int | None):
            code = end.code or 0
        else:
            sys.stderr.write(f"{end.code}\n")
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    AT_THE_START.update(_fixed(os.environ))  # some packages add to it
    server = Server(os.environ[ADDRESS], Handler)
    for package in PACKAGES:
        importlib.import_module(package)
    gc.freeze()  # else a child's first collection copies the memory of all packages
    server.serve_forever()
