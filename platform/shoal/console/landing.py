"""The two pages of plain HTML: the landing page at `/`, and the sign-in form."""

from collections.abc import Iterable
from html import escape

from shoal.contract.capability import Capability

from .theme import LOGO, STATIC

_STYLE = """
main { max-width:1080px; margin:0 auto; padding:56px 24px 80px }
.brand { display:flex; align-items:center; gap:12px; font-size:20px; font-weight:680; letter-spacing:-.01em }
h1 { font-size:clamp(28px, 5vw, 40px); line-height:1.15; letter-spacing:-.025em; font-weight:700; margin:40px 0 12px; max-width:22ch }
.lead { font-size:17.5px; color:var(--sh-muted); max-width:60ch; margin:0 0 28px }
.actions { display:flex; gap:12px; flex-wrap:wrap; margin-bottom:44px }
.button { display:inline-block; padding:10px 18px; border-radius:9px; font-weight:600; text-decoration:none; border:1px solid var(--sh-line); color:var(--sh-text); background:var(--sh-surface); font-size:15px; cursor:pointer; font-family:inherit }
.button.primary { background:#0b7285; border-color:#0b7285; color:#fff }
.button:hover { filter:brightness(.97) } .button.primary:hover { filter:brightness(1.1) }
h2 { font-size:13px; letter-spacing:.06em; text-transform:uppercase; color:var(--sh-muted); font-weight:650; margin:0 0 12px }
ul { list-style:none; margin:0; padding:0; display:grid; gap:16px; grid-template-columns:repeat(auto-fill, minmax(290px, 1fr)) }
li { display:flex; flex-direction:column; gap:8px }
li header { display:flex; align-items:center; gap:12px; font-weight:640; font-size:16.5px }
li header .sh-dot { margin-left:auto }
li p { margin:0; color:var(--sh-muted); flex:1 }
li nav { display:flex; gap:16px; font-size:14px; margin-top:6px }
a { color:var(--sh-accent); text-decoration:none; font-weight:550 } a:hover { text-decoration:underline }
footer { margin-top:48px; color:var(--sh-muted); font-size:14px }
form { display:flex; flex-direction:column; gap:14px; width:100% }
label { display:flex; flex-direction:column; gap:5px; font-weight:600; font-size:14px }
label small { font-weight:400; color:var(--sh-muted); font-size:13px }
input { font:15px var(--sh-mono); padding:10px 12px; border-radius:8px; border:1px solid var(--sh-line); background:var(--sh-page); color:var(--sh-text); width:100% }
*:focus-visible { outline:2px solid var(--sh-accent); outline-offset:2px }
.door { min-height:100vh; display:grid; place-items:center; padding:24px } .door .sh-card { width:min(420px, 100%); padding:32px }
.door h1 { font-size:22px; margin:22px 0 4px } .door p { margin:0 0 18px; color:var(--sh-muted) }
.refused { border:1px solid color-mix(in srgb, var(--sh-bad) 40%, transparent); background:color-mix(in srgb, var(--sh-bad) 8%, transparent); color:var(--sh-bad); border-radius:8px; padding:9px 12px; font-size:14px }
"""

_DOTS = """
for (const dot of document.querySelectorAll("[data-health]"))
  fetch(dot.dataset.health).then(r => { dot.classList.add(r.ok ? "sh-good" : "sh-bad"); dot.title = r.ok ? "answers" : "answers " + r.status; })
    .catch(() => { dot.classList.add("sh-bad"); dot.title = "does not answer"; });
"""


def _page(title: str, body: str, theme: str | None, script: str = "") -> str:
    attribute = f' data-theme="{theme}"' if theme in ("light", "dark") else ""
    return (
        f'<!doctype html><html lang="en"{attribute}><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="/favicon.svg">'
        f"<style>{STATIC}{_STYLE}</style></head><body>{body}{f'<script>{script}</script>' if script else ''}</body></html>"
    )


def landing(capabilities: Iterable[Capability], *, dashboard: str | None, theme: str | None) -> str:
    """The public front door: what runs here, and where to go. Links are relative to
    this host.
    """
    cards = "".join(
        f'<li class="sh-card"><header><span class="sh-tile">{escape(c.name[0])}</span>{escape(c.name)}'
        f'<span class="sh-dot" data-health="/{escape(c.name)}/healthz"></span></header><p>{escape(c.summary)}</p>'
        f'<nav><a href="/console/{escape(c.name)}">Open</a><a href="/{escape(c.name)}/openapi.json">OpenAPI</a></nav></li>'
        for c in capabilities
    )
    more = f' · <a href="{escape(dashboard)}">Ray dashboard</a>' if dashboard else ""
    body = (
        f'<main><div class="brand">{LOGO}Shoal</div><h1>Your company’s AI features, on one cluster.</h1>'
        '<p class="lead">Each capability below is a service of its own. They share tenants, permissions, limits, experiments and data, '
        'so that an API key opens exactly what its company may see.</p><div class="actions">'
        '<a class="button primary" href="/console/">Open the console</a>'
        '<a class="button" href="/platform/openapi.json">Platform API</a></div>'
        f'<h2>Capabilities</h2><ul>{cards}</ul><footer>The platform’s own <a href="/platform/openapi.json">OpenAPI</a>{more}</footer></main>'
    )
    return _page("Shoal", body, theme, _DOTS)


def sign_in(*, refused: str | None, user: str, after: str, theme: str | None) -> str:
    """The sign-in form, with the reason for which the last attempt was refused.
    `after`: the console page to go to.
    """
    notice = (
        f'<div class="refused" role="alert">{escape(refused[:1].upper() + refused[1:])}</div>'
        if refused
        else ""
    )
    body = (
        f'<div class="door"><div class="sh-card"><div class="brand">{LOGO}Shoal</div><h1>Sign in</h1>'
        "<p>With an API key of your company. The console can do what the key can.</p>"
        f'<form method="post" action="/console/sign-in">{notice}<input type="hidden" name="after" value="{escape(after)}">'
        '<label>API key<input name="key" type="password" autocomplete="current-password" placeholder="shoal_…" required autofocus></label>'
        f'<label>User <small>Optional: see what this person may see. Empty: the company’s service.</small><input name="user" value="{escape(user)}" autocomplete="username"></label>'
        '<button class="button primary" type="submit">Sign in</button></form></div></div>'
    )
    return _page("Sign in · Shoal", body, theme)
