"""Names and messages use the terms of the field: replaced words do not return."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEARCHED = ("platform", "plugins", "docs", "deploy", "benchmarks", "tests", "README.md", "Makefile")

# (where, a regular expression of what was replaced, what to say instead)
REPLACED = [
    ("", r"\b[Dd]oors?\b|\w+Door\b", "tenant store, TenantStore"),
    ("", r"\bdirectly\(", "fast_path"),
    ("", r"\b(?:head\.Head|exchange\.Exchange|account\.Account|limits\.Gate)\b", "RequestHead, …"),
    ("", r"\bservice\.Others\b|\bclass Others\b", "CapabilityCaller"),
    ("", r"\b[Kk]eep(?:s|ing)? the account\b", "metering"),
    ("", r"\bPresence\b|\bclass Gate\b", "ReplicaHeartbeat, RateLimiter"),
    ("", r"\b_View\b", "TenantView"),
    ("platform", r"\bdef (?:lives|settle|drive|keep)\(", "tenant_exists, purge_if_erased, …"),
    ("", r"\b(?:process\.Process|Process\.current)\b", "PlatformContext"),
    ("", r"shoal\.operator\b(?!_client)|\badministration\b", "operator_client, api"),
    ("", r"\bruntime[./]tenancy\b", "tenants.lifecycle"),
    ("", r"_look_at_the_clock", "mark_overdue"),
    ("", r"\blake\.Folder\b|\bclass Folder\b", "TenantLake"),
    ("", r"\bturn\.Source\b|\bclass Lost\b", "PartitionReader, LeaseLost"),
    ("", r"\b_bury\b|\b_resurrect\b", "dead_letter, requeue"),
    ("", r"shoal_lean|\bUnwatched\b|\bASKERS\b", "ray_preload, IgnoreDisconnect, …"),
    (
        "plugins/shoal_anomalies",
        r"\b(?:[Ww]atched|[Cc]ourier|[Aa]rrang\w*|ledger)\b",
        "series_state, …",
    ),
    ("plugins/shoal_anomalies", r"\b(?:surprises?|Readings)\b", "tail_probability, recent_points"),
    ("plugins/shoal_optimizer", r"\bWorlds?\b|\b[Ss]ituation\b|\bDemands\b", "inputs, …"),
    ("plugins/shoal_features", r"\bOccurrences?\b|\bQuestion\b|\beveryone\(", "EventRow, …"),
    ("", r"shoal_experiments\.(?:payload|drawing|documents)\b", "event_fields, charts, repository"),
    ("", r"shoal_search\.(?:graph|queries|words)\b", "onnx_encoder, query_encoder, analyzer"),
    (
        "plugins/shoal_search",
        r"\bclass (?:Graph|Queries|Words)\b",
        "OnnxModel, QueryEncoder, Analyzer",
    ),
    ("", r"Depends\(tenant\)", "Depends(current_tenant)"),
    ("", r"\bshoal\.(?:bucket|overlapping|connect)\b", "assignment_bucket, operator_client, …"),
    ("", r"\b(?:is|are|was|be) away\b", "is unavailable"),
    ("", r"\bjob book\b", "job runs"),
    ("", r"\b(?:key|credential) does not hold\b", "Invalid or revoked API key"),
    ("", r"and Shoal-User names another", "This key belongs to another user"),
    ("", r"nothing to look for", "q must not be blank"),
    (
        "",
        r"there is a tenant '|\bcannot be a tenant\b",
        "Tenant 'x' already exists; Invalid tenant id",
    ),
    ("", r"plugins?(?: that)? (?:is|are|was) left out", "failed to load"),
    ("", r"holds everywhere within", "Takes effect within a second"),
    ("", r"\bIts id\b", "Entity ID"),
    ("", r"Hold alerts back", "Start maintenance window"),
    ("", r"none of the last seven days", "unlike this hour on any of the last 7 days"),
    ("", r"is so unusual", "rarer than 1 point in 187"),
    ("", r"percent of harm that", "non-inferiority margin, %"),
    ("", r"As it accumulated", "Results over time"),
    ("", r"Makes the days of", "Recomputes daily results"),
    ("", r"1 of their 1\b", "They have worked together before"),
    ("", r"^#+ .*1 − workload", "Availability"),
    ("", r"\btoo many: the team has", "Team of 5 is over the limit of 4"),
    (
        "docs",
        r"^#+ (?:Figures|What is safe, and when|What you write)$",
        "Benchmarks, Durability, …",
    ),
]


def files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *SEARCHED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    kinds = {".py", ".md", ".toml", ".yaml", ".json", ""}
    return [
        ROOT / name
        for name in listed
        if name and Path(name).suffix in kinds and name != "tests/test_words.py"
    ]


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    return [
        (f"{file.relative_to(ROOT)}:{number}", line)
        for file in files()
        if file.is_file()
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
    ]


@pytest.mark.parametrize(("where", "pattern", "instead"), REPLACED)
def test_a_replaced_word_stands_nowhere(
    lines: list[tuple[str, str]], where: str, pattern: str, instead: str
) -> None:
    word = re.compile(pattern)
    found = [
        f"{place}: {line.strip()[:90]}"
        for place, line in lines
        if place.startswith(where) and word.search(line)
    ]
    assert not found, f"say {instead}:\n" + "\n".join(found[:20])
