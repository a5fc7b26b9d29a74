"""The look of the landing page, the sign-in form and the console.

It has colours, type, and the classes that a page may use. Nothing is loaded from other
hosts: fonts are the system's, the logo is inline, and NiceGUI bundles its scripts.
"""

ACCENT, ACCENT_DARK = "#0b7285", "#3bc9db"

_FISH = (
    '<path d="M2 9c4-5 11-6 16-1l4-3v8l-4-3c-5 5-12 4-16-1z"/>'
    '<path opacity=".65" d="M16 18c4-5 11-6 16-1l4-3v8l-4-3c-5 5-12 4-16-1z"/>'
    '<path opacity=".4" d="M2 26c3-4 9-5 13-1l3-2v6l-3-2c-4 4-10 3-13-1z"/>'
)
LOGO = (
    '<svg class="sh-logo" viewBox="0 0 40 32" aria-hidden="true">'
    f'<g fill="currentColor">{_FISH}</g></svg>'
)
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 32">'
    f'<g fill="{ACCENT}">{_FISH}</g></svg>'
)

_LIGHT = """
  --sh-page:#f4f6f8; --sh-surface:#ffffff; --sh-sunken:#eef2f4; --sh-line:#dfe5e9;
  --sh-text:#16232c; --sh-muted:#566570; --sh-accent:#0b7285; --sh-accent-soft:#e3f3f6;
  --sh-good:#1d6b2c; --sh-warn:#8f4c00; --sh-bad:#b02020;
  --sh-shadow:0 1px 2px rgb(16 32 44/.06), 0 4px 14px rgb(16 32 44/.05); color-scheme:light;"""
_DARK = """
  --sh-page:#0e1519; --sh-surface:#162026; --sh-sunken:#111a1f; --sh-line:#27343c;
  --sh-text:#e6edf1; --sh-muted:#95a5b0; --sh-accent:#3bc9db; --sh-accent-soft:#12333a;
  --sh-good:#69db7c; --sh-warn:#ffc078; --sh-bad:#ff8787;
  --sh-shadow:0 1px 2px rgb(0 0 0/.4); color-scheme:dark;"""

BASE = """
*, *::before, *::after { box-sizing:border-box }
body { margin:0; background:var(--sh-page); color:var(--sh-text);
  font:15px/1.55 var(--sh-font); -webkit-font-smoothing:antialiased }
.sh-logo { width:34px; height:27px; color:var(--sh-accent); flex:none; display:block }
.sh-muted { color:var(--sh-muted) }
.sh-mono { font-family:var(--sh-mono); font-size:.9em }
.sh-card { background:var(--sh-surface); border:1px solid var(--sh-line); border-radius:12px;
  padding:20px; box-shadow:var(--sh-shadow) }
.sh-pill { display:inline-flex; align-items:center; gap:6px; padding:1px 9px;
  border-radius:999px; font-size:12.5px; font-weight:550;
  border:1px solid var(--sh-line); color:var(--sh-muted); background:var(--sh-sunken);
  white-space:nowrap }
.sh-dot { display:inline-block; width:8px; height:8px; border-radius:50%;
  background:var(--sh-muted); flex:none }
.sh-good { --sh-state:var(--sh-good) }
.sh-warn { --sh-state:var(--sh-warn) }
.sh-bad { --sh-state:var(--sh-bad) }
.sh-off { --sh-state:var(--sh-muted) }
.sh-dot:is(.sh-good,.sh-warn,.sh-bad,.sh-off) { background:var(--sh-state) }
.sh-pill:is(.sh-good,.sh-warn,.sh-bad) { color:var(--sh-state);
  border-color:color-mix(in srgb, var(--sh-state) 35%, transparent);
  background:color-mix(in srgb, var(--sh-state) 9%, transparent) }
.sh-tile { width:38px; height:38px; border-radius:10px; display:grid; place-items:center;
  font-weight:650; font-size:17px; flex:none;
  color:var(--sh-accent); background:var(--sh-accent-soft); text-transform:uppercase }
"""

FONTS = """
  --sh-font:Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
    sans-serif;
  --sh-mono:ui-monospace, "SF Mono", "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace;"""

STATIC = f""":root {{ {FONTS} {_LIGHT} }}
@media (prefers-color-scheme:dark) {{ :root {{ {_DARK} }} }}
:root[data-theme=light] {{ {_LIGHT} }}
:root[data-theme=dark] {{ {_DARK} }}
{BASE}"""
"""Styles of the plain HTML pages. The theme is the cookie's, else the system's."""

CONSOLE = f""":root {{ {FONTS} }}
body {{ {_LIGHT} }}
body.body--dark {{ {_DARK} }}
{BASE}
.nicegui-content {{ padding:28px clamp(16px, 3vw, 40px) 64px; max-width:1280px; margin:0 auto;
  width:100%; gap:20px; align-items:flex-start }}
body.body--dark {{ --q-primary:{ACCENT_DARK} !important; --q-info:#1098ad !important }}
body.body--dark .q-btn.bg-primary .q-btn__content {{ color:#08252b }}
body, .q-field, .q-btn, .q-table, .q-tab, .q-menu, .q-dialog {{ font-family:var(--sh-font) }}
.q-btn {{ text-transform:none; font-weight:550; letter-spacing:0; border-radius:8px }}
.q-header {{ background:var(--sh-surface) !important; color:var(--sh-text) !important;
  border-bottom:1px solid var(--sh-line); box-shadow:none }}
.q-drawer {{ background:var(--sh-page) !important; border-right:1px solid var(--sh-line) }}
.q-card, .q-table__card {{ background:var(--sh-surface); color:var(--sh-text);
  border:1px solid var(--sh-line); border-radius:12px; box-shadow:none }}
.q-table th {{ color:var(--sh-muted); font-weight:600; font-size:12.5px }}
.q-table td {{ font-size:14px }}
.q-table thead tr, .q-table tbody td {{ border-color:var(--sh-line) }}
.q-field--outlined .q-field__control {{ border-radius:8px; background:var(--sh-surface) }}
.q-field--outlined .q-field__control::before {{ border-color:var(--sh-line) }}
.q-tooltip {{ font-size:12.5px }}
.q-notification {{ border-radius:10px }}
.q-dialog__inner > .q-card {{ padding:20px }}
h1, .sh-h1 {{ font-size:26px; line-height:1.25; font-weight:660; letter-spacing:-.015em;
  margin:0 }}
h2, .sh-h2 {{ font-size:17px; line-height:1.35; font-weight:640; letter-spacing:-.005em;
  margin:0 }}
h3, .sh-h3 {{ font-size:14px; line-height:1.4; font-weight:640; margin:0 }}
.sh-card, .sh-stack {{ gap:12px }}
.sh-grid {{ display:grid; grid-template-columns:repeat(auto-fill, minmax(300px, 1fr));
  gap:16px; width:100% }}
a.sh-link, .sh-link a {{ color:var(--sh-accent); text-decoration:none; font-weight:550 }}
a.sh-link:hover {{ text-decoration:underline }}
.sh-main {{ display:flex; flex-direction:column; gap:20px; width:100%; align-items:flex-start;
  min-width:0 }}
.sh-status {{ display:flex; flex-wrap:wrap; gap:4px 16px; justify-content:flex-end; width:100%;
  margin:-16px 0 -12px; font-size:13px; color:var(--sh-muted) }}
.sh-stale {{ color:var(--sh-bad); font-weight:600 }}
a.sh-nav {{ display:flex; align-items:center; gap:10px; padding:7px 12px; border-radius:8px;
  color:var(--sh-text); text-decoration:none; font-size:14.5px; width:100% }}
a.sh-nav:hover {{ background:color-mix(in srgb, var(--sh-text) 6%, transparent) }}
a.sh-nav.sh-here {{ background:var(--sh-accent-soft); color:var(--sh-accent); font-weight:600 }}
.sh-tenant {{ display:block; font-weight:620; overflow:hidden; text-overflow:ellipsis;
  white-space:nowrap }}
.sh-signout {{ white-space:nowrap; background:none; border:0; color:var(--sh-muted);
  font:inherit; font-size:14px; cursor:pointer; padding:6px }}
.sh-signout:hover {{ color:var(--sh-text) }}
.sh-navhead {{ font-size:11.5px; font-weight:650; letter-spacing:.06em;
  text-transform:uppercase; color:var(--sh-muted); padding:14px 12px 4px }}
.sh-tabs {{ display:flex; gap:4px; border-bottom:1px solid var(--sh-line); width:100%;
  overflow-x:auto }}
a.sh-tab {{ padding:8px 14px 9px; color:var(--sh-muted); text-decoration:none;
  font-weight:550; border-bottom:2px solid transparent; margin-bottom:-1px;
  white-space:nowrap }}
a.sh-tab:hover {{ color:var(--sh-text) }}
a.sh-tab.sh-here {{ color:var(--sh-accent); border-bottom-color:var(--sh-accent) }}
.sh-empty {{ border:1px dashed var(--sh-line); border-radius:12px; padding:36px 20px;
  text-align:center; color:var(--sh-muted); width:100% }}
.sh-verb {{ font:600 11.5px/1 var(--sh-mono); padding:4px 7px; border-radius:6px;
  min-width:58px; text-align:center; background:var(--sh-sunken); color:var(--sh-muted) }}
.sh-verb.sh-get {{ color:var(--sh-accent); background:var(--sh-accent-soft) }}
.sh-row {{ display:flex; align-items:center; gap:12px; width:100% }}
.sh-rule {{ border-top:1px solid var(--sh-line); width:100% }}
mark {{ background:color-mix(in srgb, var(--sh-accent) 20%, transparent); color:inherit;
  border-radius:3px; padding:0 2px }}
*:focus-visible {{ outline:2px solid var(--sh-accent); outline-offset:2px; border-radius:6px }}
@media (prefers-reduced-motion:reduce) {{ * {{ transition:none !important;
  animation:none !important }} }}
"""
"""Styles of NiceGUI's pages."""
