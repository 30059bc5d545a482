"""When a node is healthy, and how it says so."""

import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_pacs import free_port

from hilum.pacs.config import ConfigError, Store
from hilum.pacs.config import Watch as WatchConfig
from hilum.pacs.page import Page
from hilum.pacs.queue import FAILED, Places, Queue
from hilum.pacs.service import watchdog
from hilum.pacs.watch import METRICS, Counted, Facts, Health, Watch, metrics, problems

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
FACTS: dict[str, int | float] = {"films_waiting": 0, "free_mb": 5000.0, "worker_alive": 1, "sender_alive": 1}
WELL: dict[str, Any] = {
    **{"away": {}, "no_space_since": None, "worker_failed": "", "worker_silent_s": 1.0},
    **{"store": Store(folder=Path("node")), "watch": WatchConfig(port=1), "now": 10_000.0},
}
HEALTH = Health(FACTS, [Counted("films_refused", {"reason": 'a"b', "sender": "X"}, 2)], {}, [], True)


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        ({}, {}, ""),
        ({"worker_alive": 0}, {}, "the worker has ended"),
        ({}, {"away": {"archive": 899.0}}, ""),
        ({}, {"away": {"archive": 901.0}}, "archive has taken nothing for 901 s"),
        ({"free_mb": 1000}, {}, "films are refused: 1000 MiB are free"),
        ({"films_waiting": 20_000}, {}, "films are refused: 20000 wait"),
        ({}, {"no_space_since": 9_500.0}, "refused for lack of space 500 s ago"),
        ({}, {"no_space_since": 9_000.0}, ""),
        ({}, {"worker_failed": "OSError"}, "the worker fails: OSError"),
        ({}, {"worker_silent_s": 700.0}, "the worker has finished nothing for 700 s"),
    ],
)
def test_what_is_wrong(facts: dict[str, int], state: dict[str, Any], words: str) -> None:
    said = problems({**FACTS, **facts}, **{**WELL, **state})
    assert bool(said) == bool(words)
    assert words in "".join(said)


def test_metrics_are_prometheus_s() -> None:
    text = metrics(HEALTH)
    assert 'hilum_node_films_refused_total{reason="a\\"b",sender="X"} 2\n' in text
    assert "# TYPE hilum_node_films_refused_total counter\n" in text
    assert text.count("# TYPE hilum_node_healthy gauge\nhilum_node_healthy 1\n") == 1


def get(url: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_who_has_no_token_is_told_the_status_alone(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    port, now = free_port(), [HEALTH]
    watch = Watch(WatchConfig(port=port, token_file=tmp_path / "token"), lambda: now[0])
    watch.start()
    url = f"http://127.0.0.1:{port}"
    try:
        assert get(f"{url}/health") == (200, '{"healthy": true}')
        assert get(f"{url}/ready") == (200, '{"ready": true}')
        assert get(f"{url}/metrics")[0] == get(f"{url}/metrics", "other")[0] == 401
        assert "hilum_node_healthy 1" in get(f"{url}/metrics", "secret")[1]
        now[0] = replace(HEALTH, problems=["the disk is full"], ready=False)
        assert get(f"{url}/health") == (503, '{"healthy": false}')
        status, body = get(f"{url}/health", "secret")
        assert (status, json.loads(body)["problems"]) == (503, ["the disk is full"])
        assert get(f"{url}/ready")[0] == 503
    finally:
        watch.stop()


def test_the_operator_s_page_lists_films_and_does_them_again(tmp_path: Path) -> None:
    queue = Queue(Places(tmp_path).folder)
    queue.add("1.1", "1.9", now=1.0, sender="<b>CT1")
    queue.finish(queue.ready(quiet_s=0.0, now=9.0, most=1)[0], FAILED, why="film must be read, got 1950", now=2.0)
    port = free_port()
    watch = Watch(WatchConfig(port=port), lambda: replace(HEALTH, facts={**FACTS, "results_waiting": 0}), Page(queue))
    watch.start()
    url = f"http://127.0.0.1:{port}"

    def post(key: str, host: str = f"127.0.0.1:{port}") -> int:
        request = urllib.request.Request(f"{url}/retry", data=f"film=1&key={key}".encode(), headers={"Host": host})
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    try:
        status, page = get(f"{url}/?state=failed")
        assert status == 200
        assert "&lt;b&gt;CT1" in page
        assert "film must be read<" in page.replace("\n", "")
        assert "1950" not in page
        assert "not a medical device" in page
        key = re.search('name="key" value="([^"]+)"', page)
        assert key
        assert post("other") == 409
        assert post(key[1], host="evil.example") == 404
        assert post(key[1]) == 200  # the page again
        assert queue.waiting() == 1
    finally:
        watch.stop()
        queue.close()


def test_off_loopback_a_token_is_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="watch must have a token"):
        WatchConfig(port=1, address="0.0.0.0").token()
    monkeypatch.setenv("HILUM_WATCH_TOKEN", "secret")
    assert WatchConfig(port=1, address="0.0.0.0").token() == "secret"


@pytest.mark.parametrize("name", ["node_alerts.yml", "node_board.json"])
def test_rules_and_board_ask_for_metrics_that_there_are(name: str) -> None:
    asked = set(re.findall(r"hilum_node_\w+", (DOCS / name).read_text()))
    assert len(asked) > 4
    assert asked <= set(METRICS)


def promtool(*arguments: str, said: str = "") -> str:
    """What Prometheus' own tool says, which must find nothing wrong."""
    done = subprocess.run(["promtool", *arguments], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here: apt-get install prometheus")
def test_prometheus_takes_metrics_and_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    assert "FAILED" not in promtool("check", "rules", str(DOCS / "node_alerts.yml"))
    said = promtool("check", "metrics", said=metrics(HEALTH))
    assert "error" not in said
    tests = tmp_path / "tests.yml"
    told = (Path(__file__).parent / "node_alerts_test.yml").read_text()
    tests.write_text(told.replace("[RULES]", f"[{DOCS / 'node_alerts.yml'}]"))
    assert "SUCCESS" in promtool("test", "rules", str(tests))


def test_systemd_s_watchdog_is_told_only_while_all_parts_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: Facts = {"worker_alive": 1, "sender_alive": 1}
    asked = threading.Semaphore(0)

    def told() -> Facts:
        asked.release()
        if len(facts) == 1:
            raise EOFError
        return dict(facts)

    def until_ended() -> None:
        with suppress(EOFError):
            watchdog(told)

    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        thread = threading.Thread(target=until_ended)
        thread.start()
        assert systemd.recv(100) == b"WATCHDOG=1"
        facts["worker_alive"] = 0
        for _ in range(3):  # it has looked again since
            assert asked.acquire(timeout=60)
        systemd.setblocking(False)
        with suppress(BlockingIOError):
            while systemd.recv(100):
                pass
        asked.acquire(timeout=60)
        asked.acquire(timeout=60)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        facts.popitem()
        thread.join(timeout=60)
        assert not thread.is_alive()
