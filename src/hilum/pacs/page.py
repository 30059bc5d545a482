"""The operator's page: films, states and reasons, what is wrong, and a button to do films again. On loopback alone."""

import secrets
import time
from datetime import datetime
from urllib.parse import parse_qs

from jinja2 import Environment

import hilum
from hilum.pacs.queue import FILM_STATES, REFUSED, SENT, Queue
from hilum.pacs.watch import Health
from hilum.pacs.work import why_in_a_log

_STATES = (*FILM_STATES, SENT, REFUSED)
_MOST = 100
_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="dark light">
<title>Hilum node</title>
<style>
:root { --page: #10151a; --card: #182027; --ink: #e7ebef; --muted: #a5b1bd; --line: #323d48; --soft: #202a33;
  --accent: #6fc7d2; --warn-ink: #f2d7a0; --warn: #322a18; --warn-line: #77602c; --bad: #ff9d94; --edge: #6c7b89; }
@media (prefers-color-scheme: light) { :root { --page: #f6f7f8; --card: #fff; --ink: #1b2430; --muted: #566170;
  --line: #d9dee4; --soft: #eef2f4; --accent: #0a6270; --warn-ink: #6b4300; --warn: #fdf3dd; --warn-line: #e2b866;
  --bad: #a3261b; --edge: #7b8794; } }
body { margin: 0; background: var(--page); color: var(--ink); font: .9375rem/1.45 system-ui, "Segoe UI", sans-serif; }
header, main { padding: .6rem 1rem; max-width: 75rem; margin: auto; } h1 { font-size: 1.1rem; margin: 0; }
.note { padding: .35rem 1rem; background: var(--warn); color: var(--warn-ink);
  border-block: 1px solid var(--warn-line); }
.bad { color: var(--bad); font-weight: 600; } .muted { color: var(--muted); }
nav a { color: var(--accent); margin-right: .8rem; } nav a[aria-current] { color: var(--ink); font-weight: 700; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .7rem; margin: .7rem 0;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.uid { overflow-wrap: anywhere; }
button { font: inherit; color: var(--ink); background: var(--soft); border: 1px solid var(--edge); border-radius: .4rem;
  padding: .1rem .6rem; cursor: pointer; } :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
</style>
<p class="note" role="note" style="margin:0">{{ disclaimer }}</p>
<header><h1>Hilum node</h1></header>
<main>
<section aria-label="Health">
{% if health.problems %}{% for words in health.problems %}<p class="bad">{{ words }}</p>{% endfor %}
{% else %}<p>Nothing is wrong.</p>{% endif %}
<p class="muted">{% for route, model in health.models.items() %}{{ route }}: {{ model.name }}. {% endfor %}
{{ health.facts.films_waiting }} films and {{ health.facts.results_waiting }} results wait.
{{ "%.0f"|format(health.facts.free_mb) }} MiB are free.</p>
</section>
<nav aria-label="States"><a href="/"{% if not state %} aria-current="page"{% endif %}>all</a>
{% for one in states %}<a href="/?state={{ one }}"{% if one == state %} aria-current="page"{% endif %}>{{ one }}</a>
{% endfor %}</nav>
<section aria-label="Films">
<table><thead><tr><th>film<th>received<th>sender<th>SOP Instance UID<th>state<th>reason<th></tr></thead><tbody>
{% for one, why in films %}<tr><td>{{ one.number or "" }}<td>{{ time(one.received) }}<td>{{ one.sender }}
<td class="uid">{{ one.film }}<td{% if one.state == "failed" %} class="bad"{% endif %}>{{ one.state }}<td>{{ why }}
<td>{% if one.state == "failed" and one.kept %}<form method="post" action="/retry">
<input type="hidden" name="key" value="{{ key }}"><input type="hidden" name="film" value="{{ one.number }}">
<button aria-label="Retry film {{ one.number }}">Retry</button></form>{% endif %}</tr>
{% else %}<tr><td colspan="7" class="muted">None.</tr>{% endfor %}
</tbody></table>
</section>
<p class="muted">The newest {{ most }}. The reason in full, which can hold what stands in a film's header:
<code>hilum node show CONFIG FILM</code>.</p>
</main>
</html>
"""


class Page:
    """The page of a node.

    A form is taken only with the key that this process put into it, so that another site cannot send one.
    """

    def __init__(self, queue: Queue):
        self._queue, self._key = queue, secrets.token_urlsafe()
        self._template = Environment(autoescape=True, trim_blocks=True).from_string(_TEMPLATE)

    def html(self, query: str, health: Health) -> str:
        """The page for a query such as `state=failed`; an unknown state is all of them."""
        asked = parse_qs(query).get("state", [""])[0]
        state = asked if asked in _STATES else None
        films = self._queue.films(state, most=_MOST)
        return self._template.render(
            disclaimer=hilum.DISCLAIMER,
            health=health,
            state=state,
            states=_STATES,
            films=[(one, _why(one.state, one.why)) for one in films],
            time=lambda seconds: datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S"),
            key=self._key,
            most=_MOST,
        )

    def retry(self, form: str) -> bool:
        """Score a failed film again; false if the form is not of this page, or the film cannot be."""
        fields = parse_qs(form)
        number, key = (fields.get(name, [""])[0] for name in ("film", "key"))
        if not secrets.compare_digest(key.encode(), self._key.encode()) or not number.isascii() or not number.isdigit():
            return False
        return self._queue.retry(int(number), now=time.time())


def _why(state: str, why: str) -> str:
    return why if state == REFUSED else why_in_a_log(state, why)
