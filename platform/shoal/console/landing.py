"""The plain HTML pages: the landing page at `/`, and the sign-in form."""

from collections.abc import Iterable
from html import escape

from shoal.contract.capability import Capability

from .theme import LOGO, STATIC

_STYLE = """
main { max-width:1080px; margin:0 auto; padding:56px 24px 80px }
.brand { display:flex; align-items:center; gap:12px; font-size:20px; font-weight:680;
  letter-spacing:-.01em }
h1 { font-size:clamp(28px, 5vw, 40px); line-height:1.15; letter-spacing:-.025em;
  font-weight:700; margin:40px 0 12px; max-width:22ch }
.lead { font-size:17.5px; color:var(--sh-muted); max-width:60ch; margin:0 0 28px }
.actions { display:flex; gap:12px; flex-wrap:wrap; margin-bottom:44px }
.button { display:inline-block; padding:10px 18px; border-radius:9px; font-weight:600;
  text-decoration:none; border:1px solid var(--sh-line); color:var(--sh-text);
  background:var(--sh-surface); font-size:15px; cursor:pointer; font-family:inherit }
.button.primary { background:#0b7285; border-color:#0b7285; color:#fff }
.button.wide { display:block; text-align:center }
.button:hover { filter:brightness(.97) }
.button.primary:hover { filter:brightness(1.1) }
h2 { font-size:13px; letter-spacing:.06em; text-transform:uppercase; color:var(--sh-muted);
  font-weight:650; margin:0 0 12px }
ul { list-style:none; margin:0; padding:0; display:grid; gap:16px;
  grid-template-columns:repeat(auto-fill, minmax(290px, 1fr)) }
li { display:flex; flex-direction:column; gap:8px }
li header { display:flex; align-items:center; gap:12px; font-weight:640; font-size:16.5px }
li header .sh-dot { margin-left:auto }
li p { margin:0; color:var(--sh-muted); flex:1 }
li nav { display:flex; gap:16px; font-size:14px; margin-top:6px }
a { color:var(--sh-accent); text-decoration:none; font-weight:550 }
a:hover { text-decoration:underline }
footer { margin-top:48px; color:var(--sh-muted); font-size:14px }
form { display:flex; flex-direction:column; gap:14px; width:100% }
label { display:flex; flex-direction:column; gap:5px; font-weight:600; font-size:14px }
label small { font-weight:400; color:var(--sh-muted); font-size:13px }
input { font:15px var(--sh-mono); padding:10px 12px; border-radius:8px;
  border:1px solid var(--sh-line); background:var(--sh-page); color:var(--sh-text); width:100% }
*:focus-visible { outline:2px solid var(--sh-accent); outline-offset:2px }
.sign-in { min-height:100vh; display:grid; place-items:center; padding:24px }
.sign-in .sh-card { width:min(420px, 100%); padding:32px }
.sign-in h1 { font-size:22px; margin:22px 0 4px }
.sign-in p { margin:0 0 18px; color:var(--sh-muted) }
.error { border:1px solid color-mix(in srgb, var(--sh-bad) 40%, transparent);
  background:color-mix(in srgb, var(--sh-bad) 8%, transparent); color:var(--sh-bad);
  border-radius:8px; padding:9px 12px; font-size:14px }
"""

_HEALTH_SCRIPT = """
for (const dot of document.querySelectorAll("[data-health]"))
  fetch(dot.dataset.health)
    .then(r => {
      dot.classList.add(r.ok ? "sh-good" : "sh-bad");
      dot.title = r.ok ? "available" : "answers " + r.status;
    })
    .catch(() => { dot.classList.add("sh-bad"); dot.title = "does not answer"; });
"""


def landing_page(
    capabilities: Iterable[Capability], *, dashboard: str | None, theme: str | None, nonce: str
) -> str:
    """The public start page: the deployed capabilities, and where to go.

    Args:
        capabilities: The deployed capabilities.
        dashboard: Address of the Ray dashboard, if it is to be linked.
        theme: "light", "dark", or None for the system's.
        nonce: Of the page's scripts and styles.
    """
    cards = "".join(map(_card, capabilities))
    ray = f' · <a href="{escape(dashboard)}">Ray dashboard</a>' if dashboard else ""
    body = f"""<main>
<div class="brand">{LOGO}Shoal</div>
<h1>AI features for your product, on one cluster.</h1>
<p class="lead">Each capability below is a service of its own. They share tenants, permissions,
limits, experiments and data, so that an API key opens exactly what its tenant may see.</p>
<div class="actions">
<a class="button primary" href="/console/">Open the console</a>
<a class="button" href="/platform/openapi.json">Platform API</a>
</div>
<h2>Capabilities</h2>
<ul>{cards}</ul>
<footer>The platform’s own <a href="/platform/openapi.json">OpenAPI</a>{ray}</footer>
</main>"""
    return _document("Shoal", body, theme, nonce, _HEALTH_SCRIPT)


def sign_in_page(
    *,
    notice: str | None,
    user: str,
    after: str,
    provider: tuple[str, str] | None,
    theme: str | None,
    nonce: str,
) -> str:
    """The sign-in form.

    Args:
        notice: Why the last attempt failed, or why the session before ended.
        user: The user that was entered.
        after: The console page to open after signing in.
        provider: What signing in with the identity provider is called, and where it
            begins.
        theme: "light", "dark", or None for the system's.
        nonce: Of the page's scripts and styles.
    """
    alert = ""
    if notice:
        message = escape(notice[:1].upper() + notice[1:])
        alert = f'<div class="error" role="alert">{message}</div>'
    other, focus = "", " autofocus"
    if provider is not None:
        label, start = map(escape, provider)
        other = f'<p><a class="button primary wide" href="{start}">{label}</a></p>\n'
        focus = ""
    body = f"""<div class="sign-in"><div class="sh-card">
<div class="brand">{LOGO}Shoal</div>
<h1>Sign in</h1>
{alert}
{other}<p>With an API key of your tenant. The console can do what the key can.</p>
<form method="post" action="/console/sign-in">
<input type="hidden" name="after" value="{escape(after)}">
<label>API key
<input name="key" type="password" autocomplete="current-password" placeholder="shoal_…"
required{focus}></label>
<label>User <small>Optional: see what this user may see. Empty: the service itself.</small>
<input name="user" value="{escape(user)}" autocomplete="username"></label>
<button class="button{"" if other else " primary"}" type="submit">Sign in</button>
</form>
</div></div>"""
    script = f'<script nonce="{nonce}" src="/console/browser.js"></script>'
    return _document("Sign in · Shoal", body, theme, nonce, head=script)


def signed_out_page(address: str, *, theme: str | None, nonce: str) -> str:
    """The page after signing out, which goes on to sign out of the identity provider.

    Args:
        address: Where that is.
        theme: "light", "dark", or None for the system's.
        nonce: Of the page's scripts and styles.
    """
    body = f"""<div class="sign-in"><div class="sh-card">
<div class="brand">{LOGO}Shoal</div>
<h1>Signed out</h1>
<p>You are signed out of the console.</p>
<p><a class="button" href="{escape(address)}">Sign out of the identity provider</a></p>
</div></div>"""
    refresh = f'<meta http-equiv="refresh" content="0;url={escape(address)}">'
    return _document("Signed out · Shoal", body, theme, nonce, head=refresh)


def _card(capability: Capability) -> str:
    name = escape(capability.name)
    return f"""<li class="sh-card">
<header><span class="sh-tile">{escape(capability.name[0])}</span>{name}
<span class="sh-dot" data-health="/{name}/healthz"></span></header>
<p>{escape(capability.summary)}</p>
<nav><a href="/console/{name}">Open</a><a href="/{name}/openapi.json">OpenAPI</a></nav>
</li>"""


def _document(
    title: str, body: str, theme: str | None, nonce: str, script: str = "", head: str = ""
) -> str:
    attribute = f' data-theme="{theme}"' if theme in ("light", "dark") else ""
    scripts = f'<script nonce="{nonce}">{script}</script>' if script else ""
    return f"""<!doctype html>
<html lang="en"{attribute}>
<head>
<meta charset="utf-8">
<title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/favicon.svg">{head}
<style nonce="{nonce}">{STATIC}{_STYLE}</style>
</head>
<body>{body}{scripts}</body>
</html>"""
