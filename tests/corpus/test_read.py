from __future__ import annotations

from emoray.corpus.read import Corpus


def test_a_built_corpus_opens(tiny_corpus: Corpus) -> None:
    assert tiny_corpus.names == ("dreamer", "seed")
    assert len(tiny_corpus) == sum(len(d) for d in tiny_corpus.datasets) > 0
