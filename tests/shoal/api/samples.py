"""A valid request to every operation, in an order in which each finds what it needs."""

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NOW = datetime.now(UTC).isoformat()
EARLIER = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
LATER = (datetime.now(UTC) + timedelta(days=21)).isoformat()

Seen = Mapping[str, Any]
Arguments = Mapping[str, Any] | Callable[[Seen], Mapping[str, Any]]
"""The arguments of an operation, or a function of the earlier answers by operation."""


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def item(board: str) -> dict[str, Any]:
    text = "A canary sings."
    return {
        "id": "i",
        "board_id": board,
        "type": "item",
        "title": "",
        "text": text,
        "updated_at": NOW,
    }


TASK = {
    "title": "canary",
    "estimated_hours": 20,
    "deadline": LATER,
    "skills": [{"skill": "Python", "level": 3}],
    "board_id": "b",
}
PERSON = {
    "name": "Bo",
    "skills": {"Python": 4},
    "workload": 20,
    "capacity_hours": 40,
    "time_zone": "Europe/Lisbon",
    "cost_per_hour": 50,
}
OUTCOME = {
    "id": "o",
    "task": "t",
    "people": ["bo"],
    "estimated_hours": 20,
    "actual_hours": 20,
    "finished_at": NOW,
}
DESIGN = {
    "hypothesis": "Recency helps.",
    "capability": "search",
    "variants": [
        {"name": "a", "allocation": 50},
        {"name": "b", "allocation": 50, "parameters": {"recency_weight": 0.5}},
    ],
    "primary": {"name": "bought"},
    "minimum_effect": 0.1,
    "baseline": 0.2,
    "duration_days": 0,
    "minimum_sample_size": 25,
}
RECORD = {
    "capability": "search",
    "status": "running",
    "variants": [
        {"name": "a", "allocation": 50},
        {"name": "b", "allocation": 50, "parameters": {"keyword_weight": 0.5}},
    ],
}
FEATURE = {"name": "n", "dtype": "int64", "function": None, "column": "", "window": None}
VIEW = {
    "name": "profile",
    "entity": "user",
    "join_key": "user_id",
    "kind": "plain",
    "features": [{**FEATURE, "description": ""}],
    "ttl": None,
    "types": [],
    "fields": [],
    "description": "",
    "owner": "",
    "tags": {},
}


def recommendation(seen: Seen) -> Mapping[str, Any]:
    return {"id": seen["optimizer.recommend"]["id"]}


def alert(seen: Seen) -> Mapping[str, Any]:
    return {"id": seen["anomalies.list_alerts"]["alerts"][0]["id"]}


SAMPLES: dict[str, Arguments] = {
    # platform
    "platform.whoami": {},
    "platform.list_capabilities": {},
    "platform.put_members": {"board": "b", "users": ["member"]},
    "platform.get_members": {"board": "b"},
    "platform.append_events": {
        "body": [{"id": "e", "source": "test", "type": "item.updated", "subject": "i"}]
    },
    "platform.dead_letters": {},
    "platform.rejected_events": {},
    "platform.list_groups": {},
    "platform.forget_group": {"group": "removed.stream"},
    "platform.replay": {"group": "search.index", "ids": []},
    "platform.put_parameters": {"capability": "search", "recency_weight": 0.25},
    "platform.get_parameters": {"capability": "search"},
    "platform.validate_parameters": {"capability": "search", "recency_weight": 0.5},
    "platform.put_experiment": {"id": "routed", "body": RECORD},
    "platform.get_experiment": {"id": "routed"},
    "platform.list_experiments": {},
    "platform.list_jobs": {},
    "platform.run_job": {"name": "platform.compact"},
    "platform.list_runs": {},
    "platform.get_run": lambda seen: {"id": seen["platform.run_job"]["id"]},
    "platform.put_role": {"name": "analyst", "rights": ["read:tenant"]},
    "platform.get_role": {"name": "analyst"},
    "platform.list_roles": {},
    "platform.create_key": lambda seen: {"id": seen["tenant"], "role": "analyst"},
    "platform.list_keys": lambda seen: {"id": seen["tenant"]},
    "platform.get_limits": lambda seen: {"id": seen["tenant"]},
    "platform.put_limits": lambda seen: {
        "id": seen["tenant"],
        "capability": "*",
        "rps": 1999,
        "day": {"requests": 10**6},
        "storage_bytes": 2**40,
    },
    "platform.create_tenant": {"id": "newcomer"},
    "platform.list_tenants": {},
    "platform.list_audit": {},
    "platform.list_usage": {},
    "platform.get_usage": lambda seen: {"id": seen["tenant"]},
    # search
    "search.add_items": {"body": [item("b")]},
    "search.add_file": {"id": "f", "board_id": "b", "body": b"a file"},
    "search.get_item": {"id": "i"},
    "search.search": {"q": "canary"},
    "search.suggest": {"q": "canary"},
    "search.similar": {"id": "i"},
    "search.embed": {"texts": ["canary"]},
    # features
    "features.apply": {"views": [VIEW], "services": {}},
    "features.views": {},
    "features.freshness": {},
    "features.push": {
        "view": "profile",
        "rows": [{"user_id": "member", "event_timestamp": NOW, "n": 7}],
        "to": "online",
    },
    "features.rows": {"view": "profile"},
    "features.get": {"user": "member", "features": "n", "metadata": True},
    "features.batch": {"entity": "user", "ids": ["member"], "features": ["n"], "metadata": True},
    "features.historical": {
        "entities": [{"user_id": "member", "event_timestamp": NOW}],
        "features": ["n"],
    },
    "features.upload": {
        "name": "rows",
        "body": parquet(user_id=["bo"], event_timestamp=[datetime.now(UTC)]),
    },
    "features.download": {"name": "rows"},
    # anomalies
    "anomalies.add_metrics": {"body": [{"metric": "m", "value": 1.0, "time": NOW}]},
    "anomalies.write": {"body": b"m value=1"},
    "anomalies.write_v2": {"body": b"m value=1"},
    "anomalies.ping": {},
    "anomalies.query": {"q": "SHOW DATABASES"},
    "anomalies.post_query": {"body": b"q=SHOW+DATABASES"},
    "anomalies.write_prometheus": {"body": b""},
    "anomalies.export_metrics": {"body": b""},
    "anomalies.list_metrics": {},
    "anomalies.get_series": {"metric": "m"},
    "anomalies.list_anomalies": {},
    "anomalies.give_feedback": {"id": "none", "anomaly": True},
    "anomalies.report_missed": {"body": {"metric": "m", "from": EARLIER, "to": NOW}},
    "anomalies.list_labels": {},
    "anomalies.get_suggestion": {},
    "anomalies.list_alerts": {},
    "anomalies.acknowledge_alert": alert,
    "anomalies.resolve_alert": alert,
    "anomalies.list_deliveries": {},
    "anomalies.put_rule": {"id": "r", "priority": "P1", "condition": "above", "limit": 0},
    "anomalies.list_rules": {},
    "anomalies.get_rule": {"id": "r"},
    "anomalies.put_channel": {"id": "c", "body": {"type": "pagerduty", "routing_key": "0" * 32}},
    "anomalies.list_channels": {},
    "anomalies.get_channel": {"id": "c"},
    "anomalies.put_maintenance": {"id": "w", "body": {"from": NOW, "to": LATER}},
    "anomalies.get_maintenance": {"id": "w"},
    "anomalies.list_maintenance": {},
    # experiments
    "experiments.power": {"metric": "proportion", "baseline": 0.2, "n": 500, "true_effect": 0.1},
    "experiments.sample_size": {"metric": "proportion", "baseline": 0.2, "minimum_effect": 0.1},
    "experiments.analyze": {
        "metric": "proportion",
        "control": "a",
        "arms": {"a": {"n": 90, "successes": 9}, "b": {"n": 90, "successes": 19}},
    },
    "experiments.bounds": {"times": [0.5, 1]},
    "experiments.draft": {"id": "x", "body": DESIGN},
    "experiments.propose": {
        "id": "p",
        "tuned": {
            "capability": "search",
            "metric": "ndcg",
            "default": 0.5,
            "best": 0.6,
            "parameters": {"recency_weight": 0.5},
        },
        "design": {k: v for k, v in DESIGN.items() if k not in ("capability", "variants")},
    },
    "experiments.list_experiments": {},
    "experiments.get": {"id": "x"},
    "experiments.start": {"id": "x"},
    "experiments.assignment": {"id": "x", "unit": "member"},
    "experiments.add_outcomes": {"id": "x", "body": [{"unit": "bo"}]},
    "experiments.results": {"id": "x"},
    "experiments.stop": {"id": "x"},
    "experiments.promote": {"id": "x", "variant": "b", "override": "a test"},
    "experiments.rollback": {"id": "x"},
    # optimizer
    "optimizer.add_people": {"body": [{"id": "bo", **PERSON}]},
    "optimizer.put_person": {"id": "bo", "body": PERSON},
    "optimizer.get_person": {"id": "bo"},
    "optimizer.list_people": {},
    "optimizer.put_task": {"id": "t", "body": TASK},
    "optimizer.add_tasks": {"body": [{"id": "t2", **TASK}]},
    "optimizer.get_task": {"id": "t"},
    "optimizer.list_tasks": {},
    "optimizer.candidates": {"id": "t"},
    "optimizer.why": {"id": "t", "person": "bo"},
    "optimizer.check_team": {"id": "t", "people": ["bo"]},
    "optimizer.put_scenario": {"name": "hire", "people": [{"id": "new"}]},
    "optimizer.get_scenario": {"name": "hire"},
    "optimizer.list_scenarios": {},
    "optimizer.plan": {"tasks": ["t2"]},
    "optimizer.get_plan": lambda seen: {"id": seen["optimizer.plan"]["id"]},
    "optimizer.recommend": {"id": "t"},
    "optimizer.get_recommendation": recommendation,
    "optimizer.alternative": recommendation,
    "optimizer.assign": lambda seen: {**recommendation(seen), "people": ["bo"], "override": True},
    "optimizer.accept": recommendation,
    "optimizer.list_recommendations": {},
    "optimizer.list_plans": {},
    "optimizer.load": {},
    "optimizer.export_people": {},
    "optimizer.export_tasks": {},
    "optimizer.export_plan": lambda seen: {"id": seen["optimizer.plan"]["id"]},
    "optimizer.score_plan": lambda seen: {"id": seen["optimizer.plan"]["id"]},
    "optimizer.accept_plan": lambda seen: {"id": seen["optimizer.plan"]["id"], "tasks": []},
    "optimizer.add_outcomes": {"body": OUTCOME},
    "optimizer.put_outcome": {"id": "o", "body": OUTCOME},
    "optimizer.get_outcome": {"id": "o"},
    "optimizer.list_outcomes": {},
    # what removes or ends comes last
    "platform.retract_events": {"events": [{"source": "test", "id": "e"}]},
    "platform.erase_entity": {"entity": "user", "id": "member"},
    "platform.cancel_run": lambda seen: {"id": seen["platform.run_job"]["id"]},
    "platform.delete_key": lambda seen: {"id": seen["platform.create_key"]["id"]},
    "platform.delete_role": {"name": "analyst"},
    "platform.delete_experiment": {"id": "routed"},
    "platform.delete_tenant": {"id": "newcomer"},
    "search.delete_item": {"id": "i"},
    "features.forget": {"name": "rows"},
    "anomalies.delete_rule": {"id": "r"},
    "anomalies.delete_channel": {"id": "c"},
    "anomalies.delete_maintenance": {"id": "w"},
    "experiments.delete": {"id": "p"},
    "optimizer.cancel_plan": lambda seen: {"id": seen["optimizer.plan"]["id"]},
    "optimizer.delete_scenario": {"name": "hire"},
    "optimizer.delete_outcome": {"id": "o"},
    "optimizer.delete_person": {"id": "bo"},
    "optimizer.delete_task": {"id": "t2"},
}
