from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from diffrelax.flows.embedded import PAGE, SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    store = SQLiteStore(str(tmp_path / "some.sqlite"), "outputs", key="uuid")
    store.connect()
    return store


def test_documents_are_replaced_by_their_key_and_outlive_the_store(store: SQLiteStore) -> None:
    store.update([{"uuid": "a", "index": 1, "output": 1}, {"uuid": "b", "index": 1, "output": 2}])
    store.update({"uuid": "a", "index": 2, "output": 3}, key=["uuid", "index"])
    store.update({"uuid": "a", "index": 1, "output": 4}, key=["uuid", "index"])
    store.close()
    with SQLiteStore(store.path, "outputs", key="uuid") as again:
        assert [d["output"] for d in again.query()] == [4, 2, 3]
        assert again.query_one({"uuid": "a"}, ["output"], sort={"index": -1}) == {"output": 3}
        assert [d["output"] for d in again.query({"uuid": {"$in": ["b", "c"]}})] == [2]
        assert [d["output"] for d in again.query({"uuid": {"$in": ["b", "a"]}})] == [4, 2, 3]
        assert again.query_one({"uuid": "c"}) is None


def test_queries_speak_the_language_of_mongodb(store: SQLiteStore) -> None:
    kinds = ["good", "bad", "good"]
    for i, kind in enumerate(kinds):
        store.update({"uuid": str(i), "output": {"kind": kind, "n": i}})
    assert [d["output"]["n"] for d in store.query({"output.kind": "good"})] == [0, 2]
    assert [d["uuid"] for d in store.query({"output.n": {"$gt": 0}}, sort={"uuid": -1})] == [
        "2",
        "1",
    ]
    assert store.query_one({"uuid": "1"}, {"output.n": 1}) == {"output": {"n": 1}}
    assert [d["uuid"] for d in store.query(skip=1, limit=1)] == ["1"]
    assert sorted(store.distinct("output.kind")) == ["bad", "good"]
    assert [d["uuid"] for d in store.query({"uuid": {"$ne": "1"}})] == ["0", "2"]
    assert [d["uuid"] for d in store.query({"uuid": {"$in": ["0", "1"], "$ne": "1"}})] == ["0"]
    store.remove_docs({"uuid": {"$nin": ["0", "1", "2"]}})
    assert store.count() == 3
    store.remove_docs({"output.kind": "good"})
    assert store.count() == 1 and store.count({"output.n": 1}) == 1


def test_dates_come_back_and_many_documents_come_in_order(store: SQLiteStore) -> None:
    now = datetime(2026, 1, 2, 3)
    n = 2 * PAGE + 1
    store.update([{"uuid": str(i), "when": now} for i in range(n)])
    found = list(store.query())
    assert [d["uuid"] for d in found] == [str(i) for i in range(n)]
    assert found[-1]["when"].replace(tzinfo=None) == now
