"""The MLflow UI runs no code of the working folder and leaves no server behind."""

import socket
import time
import urllib.request

import pytest


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as said:
            return said.status == 200
    except OSError:
        return False


def wait_until(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.2)
    return condition()


def test_the_ui_runs_nothing_of_the_folder_and_ends(start_cli, finish_cli, tmp_path, port):
    for name in ("mlflow", "uvicorn", "gunicorn", "flask"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({name!r})")
    server = start_cli("ui", "--port", port, cwd=tmp_path)
    try:
        assert wait_until(lambda: answers(port) or server.poll() is not None)
        assert answers(port)
        assert not (tmp_path / "run").exists()
    finally:
        server.terminate()
        ended = finish_cli(server)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "Stopped.")
    assert wait_until(lambda: not answers(port), 10)
