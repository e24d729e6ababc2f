"""A process forked from one with an open session ends, opens bundles, and says what is wrong."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from effbert.runtime.engines.passing_folder import passing_folder
from matrices import slow_but

HEAD = """
import gc, multiprocessing, os, sys, threading, time
from effbert.runtime import EffbertError, Session
"""
OPENED = """
bundle, engine = sys.argv[1:3]
session = Session(bundle, engine, threads=2)
session(["good film"] * 2)
"""
WAITED = """
    sys.exit(7)
started = time.monotonic()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print("child", code, time.monotonic() - started < 5, session(["good film"])[0].label)
"""
IN_CHILD = {
    "exits": "pass",
    "leaves at once": "os._exit(7)",
    "collects garbage": "del session; gc.collect()",
    "closes": "session.close()",
    "leaves the context": "\n    with session:\n        pass",
    "opens anew": "session = Session(bundle, engine); print(len(session(['good film'] * 3)))",
    "opens another engine's": "session = Session(bundle); print(len(session(['good film'] * 3)))",
    "forks again": "os.fork() or sys.exit(0); os.wait(); session = Session(bundle, engine)",
}


def script(code: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("what", slow_but(IN_CHILD, "exits", "opens anew"))
def test_a_forked_process_ends_with_its_own_code(pristine: Path, engine: str, what: str) -> None:
    code = f"{HEAD}{OPENED}child = os.fork()\nif child == 0:\n    {IN_CHILD[what]}{WAITED}"
    assert script(code, pristine, engine)[-1] == "child 7 True positive"


def test_a_process_ends_that_was_forked_after_the_last_session_was_closed(
    pristine: Path, engine: str
) -> None:
    again = "session = Session(bundle, engine); session(['good'])"
    code = f"{HEAD}{OPENED}session.close(); del session\nchild = os.fork()\nif child == 0:\n"
    code += f"    {again}\n    sys.exit(7)\n{again}" + WAITED.removeprefix("\n    sys.exit(7)")
    assert script(code, pristine, engine)[-1].startswith("child 7 True")


def test_a_host_process_that_imported_onnxruntime_itself_forks_too(pristine: Path) -> None:
    code = f"import onnxruntime{HEAD}{OPENED}child = os.fork()\nif child == 0:{WAITED}"
    assert script(code, pristine, "onnxruntime")[-1] == "child 7 True positive"


SAID = """
for call in (lambda: session(["good"]), lambda: session.run({"input_ids": [[2, 3]]})):
    child = os.fork()
    if child == 0:
        try:
            call()
        except EffbertError as error:
            print(type(error).__name__, error, flush=True)
        sys.exit()
    os.wait()
"""


def test_an_inherited_session_says_where_to_open_the_bundle(pristine: Path, engine: str) -> None:
    for sentence in script(HEAD + OPENED + SAID, pristine, engine):
        assert sentence == (
            "RunError This session was opened in another process, before the fork, and its threads "
            "stayed there; open the bundle after the fork (gunicorn --preload: in the hook "
            "post_fork)."
        )


BUSY = """
def busy():
    while True:
        session(["good film", "bad"] * 8)
for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
for turn in range(6):
    time.sleep(0.01 * turn)
    child = os.fork()
    if child == 0:
        Session(bundle, engine)(["good"])
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


def test_a_process_is_forked_while_threads_answer(pristine: Path, engine: str) -> None:
    assert script(HEAD + OPENED + BUSY, pristine, engine) == ["7"] * 6


POOL = """
def answer(session):
    return session(["good film"])[0].label
if __name__ == "__main__":
    bundle, engine, method = sys.argv[1:4]
    session = Session(bundle, engine, threads=2)
    session(["good film"] * 2)
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        print(pool.map(answer, [session, session]))
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_session_that_is_sent_to_a_pool_is_opened_there(
    pristine: Path, engine: str, method: str, tmp_path: Path
) -> None:
    (tmp_path / "pool.py").write_text(HEAD + POOL)
    run = f"import runpy; runpy.run_path({str(tmp_path / 'pool.py')!r}, run_name='__main__')"
    if method == "forkserver":  # its processes import the file
        command = [sys.executable, str(tmp_path / "pool.py"), str(pristine), engine, method]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout == "['positive', 'positive']\n", done.stderr
    else:
        assert script(run, pristine, engine, method) == ["['positive', 'positive']"]


# A server that preloads its application, as gunicorn --preload does.
SERVER = """
import signal, socketserver
from wsgiref.simple_server import WSGIServer, make_server
warm = Session(sys.argv[1], sys.argv[2], threads=1)
warm(["good film"])
session = None
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{session(['good film'])[0].label} {os.getpid()}".encode()]
server = make_server("127.0.0.1", 0, application)
server.socket.settimeout(1)  # the other worker may be quicker to accept what both were woken for
workers = []
ready, told = os.pipe()
for _ in range(2):
    worker = os.fork()
    if worker == 0:
        # Not sys.exit: wsgiref swallows what is raised while it answers.
        stop = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda *_: stop.start())
        session = Session(sys.argv[1], sys.argv[2], threads=1)  # post_fork
        os.write(told, b".")
        server.serve_forever()
        sys.exit(0)
    workers.append(worker)
assert all(os.read(ready, 1) for _ in workers)  # a signal does not find them half open
print(server.server_port, flush=True)
sys.stdin.read()
for worker in workers:
    os.kill(worker, signal.SIGTERM)
print([os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers], flush=True)
"""


def test_workers_of_a_preloading_server_answer_and_end(pristine: Path, engine: str) -> None:
    command = [sys.executable, "-c", HEAD + SERVER, str(pristine), engine]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for _ in range(4):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert answer.read().startswith(b"positive ")
        started = time.monotonic()
        try:
            ended, _ = server.communicate("", timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            raise
    assert ended == "[0, 0]\n"
    assert time.monotonic() - started < 5


def test_a_folder_for_passing_files_is_left_to_the_process_that_made_it() -> None:
    with passing_folder() as folder:
        child = os.fork()
        if child == 0:
            try:
                import atexit

                atexit._run_exitfuncs()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_for_passing_files_is_gone_after_an_interrupt() -> None:
    code = """
import time
from effbert.runtime.engines.passing_folder import passing_folder
with passing_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import signal\nsignal.signal(2, signal.default_int_handler){code}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(signal.SIGINT)
    assert not folder.exists()


def test_nothing_is_reported_to_the_makers_of_onnxruntime(pristine: Path) -> None:
    code = f"{HEAD}{OPENED}print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
    code += "session.close(); del session; gc.collect()\n"
    code += "print(len(os.listdir('/proc/self/task')))"
    numpy_alone = "import os, numpy; print(len(os.listdir('/proc/self/task')))"
    assert script(code, pristine, "onnxruntime") == ["None", *script(numpy_alone)]
