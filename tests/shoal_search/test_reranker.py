"""A cross-encoder in whose order the first hits are put, with a small one made here."""

import secrets
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from shoal.testing import CapabilityApp

pytestmark = pytest.mark.integration
WORDS = ["budget", "review", "launch", "invoice", "survey", "payroll", "backup", "pricing"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cross-encoder with random weights: its order is nobody else's."""
    folder = tmp_path_factory.mktemp("reranker")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    assert BertWordPieceTokenizer(str(vocabulary)).get_vocab_size() == len(words)
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=1.0,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(vocabulary), model_max_length=128).save_pretrained(folder)
    return str(folder)


def items() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{i}",
            "board_id": "b",
            "type": "doc",
            "title": WORDS[i % 8],
            "text": " ".join(WORDS[(i * k) % 8] for k in (1, 3, 5)) + f" {'budget ' * (i // 8)}",
            "updated_at": "2026-11-20T10:00:00Z",
        }
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def app(shoal_app: Any, model: str) -> CapabilityApp:
    made: CapabilityApp = shoal_app("search", settings={"search": {"reranker": model}})
    return made


def test_the_first_fifty_are_in_the_order_of_the_model(
    app: CapabilityApp, model: str, tmp_path: Path
) -> None:
    client = app.client(f"r{secrets.token_hex(3)}")
    client.search.add_items(body=items())
    query = "review of the budget for a launch"
    hits = client.search.search(q=query, limit=60, explain=True)["hits"]
    assert len(hits) == 60
    texts = {item["id"]: f"{item['title']}\n{item['text'].strip()}" for item in items()}
    encoder = CrossEncoder(model, activation_fn=torch.nn.Sigmoid(), num_labels=1)
    values = encoder.predict([(query, texts[hit["id"]]) for hit in hits])
    moved = [i for i, hit in enumerate(hits) if hit["explanation"]["relevance"] is not None]
    lifted = [i for i, hit in enumerate(hits[:50]) if hit["explanation"]["lift"]]
    assert sorted([*moved, *lifted]) == list(range(50))
    for i in moved:
        assert hits[i]["explanation"]["relevance"] == pytest.approx(values[i], abs=1e-4)
    assert sorted((values[i] for i in moved), reverse=True) == pytest.approx(
        [values[i] for i in moved], abs=1e-4
    )
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    pages = [client.search.search(q=query, limit=17)]
    while pages[-1]["cursor"]:
        pages.append(client.search.search(q=query, limit=17, cursor=pages[-1]["cursor"]))
    assert [h["id"] for page in pages for h in page["hits"]] == [hit["id"] for hit in hits]
