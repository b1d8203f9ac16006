"""The table of cases: what every subject is asked. Adding one is one line here.

Sizes are distinct primes where the layer allows, so that a swapped axis cannot hide.
"""

from __future__ import annotations

from dataclasses import replace

from shared_tests.cases import minilm
from shared_tests.cases.case import Case, Config
from shared_tests.harness.scoring import Additive

CROSS = Config(key_size=7, query_size=5, value_size=11, num_hiddens=12, num_heads=3)
BIASED = replace(CROSS, bias=True)
ADDITIVE = replace(CROSS, scoring=Additive(17))
SELF = Config(key_size=12, query_size=12, value_size=12, num_hiddens=12, num_heads=3, bias=True)
EIGHT_HEADS = Config(key_size=7, query_size=5, value_size=11, num_hiddens=24, num_heads=8, bias=True)
PRUNED = replace(CROSS, num_heads=2)
"""CROSS without one of its three heads: the heads together are no longer as wide as the output."""
BOOK = Config(key_size=100, query_size=100, value_size=100, num_hiddens=100, num_heads=5)
DIGITS = Config(key_size=16, query_size=16, value_size=16, num_hiddens=64, num_heads=4)
DIGITS_8_HEADS = replace(DIGITS, num_heads=8, head_dim=8)
EVERY = ("float64", "float32", "bfloat16", "float16")
RAGGED = ((1, 7, 3, 2, 5), (4, 1, 6, 7, 2))

CASES = {
    "book": Case(BOOK, queries=4, keys=6, valid_lens=(3, 2), dtypes=EVERY),
    "no lengths": Case(CROSS),
    "lengths": Case(CROSS, valid_lens=(3, 6)),
    "lengths per query": Case(CROSS, valid_lens=RAGGED, dtypes=EVERY),
    "causal": Case(SELF, queries=7, valid_lens=((1, 2, 3, 4, 5, 6, 7),) * 2, self_attention=True),
    "zero lengths": Case(CROSS, valid_lens=(0, 3), dtypes=EVERY),
    "zero and negative lengths per query": Case(CROSS, valid_lens=((0, 7, 3, 0, 5), (-4, 1, 0, 7, 2))),
    "lengths beyond the keys": Case(CROSS, batch=4, valid_lens=(8, 1000, 256, 65536)),
    "all lengths zero": Case(CROSS, valid_lens=(0, 0)),
    "single entry, lengths per query": Case(CROSS, batch=1, valid_lens=((1, 7, 3, 2, 5),)),
    "as many entries as queries": Case(CROSS, batch=5, valid_lens=(3, 6, 1, 7, 2)),
    "square lengths per query": Case(CROSS, batch=3, queries=3, valid_lens=((1, 5, 2), (7, 3, 4), (6, 2, 1))),
    "more than one block": Case(CROSS, batch=1, queries=137, keys=149, valid_lens=(139,)),
    "equal scores far below -1e30": Case(BIASED, valid_lens=(3, 6), gain=0.0, score_bias=2.0**55),
    "single query": Case(CROSS, queries=1, valid_lens=(3, 6)),
    "single key": Case(CROSS, keys=1, valid_lens=(1, 0)),
    "single entry": Case(CROSS, batch=1, valid_lens=(4,)),
    "one head": Case(replace(CROSS, num_heads=1, head_dim=12), valid_lens=(3, 6)),
    "heads equal hidden": Case(replace(CROSS, num_heads=12, head_dim=1), valid_lens=(3, 6)),
    "eight heads": Case(EIGHT_HEADS, valid_lens=RAGGED, dtypes=EVERY),
    "eight heads, additive": Case(replace(EIGHT_HEADS, scoring=Additive(17)), valid_lens=(3, 6)),
    "bias": Case(BIASED, valid_lens=(3, 6)),
    "bias, lengths per query": Case(BIASED, valid_lens=RAGGED, dtypes=EVERY),
    "batch of three": Case(BIASED, batch=3, valid_lens=(7, 1, 4)),
    "self attention": Case(SELF, queries=7, valid_lens=(3, 6), self_attention=True),
    "more queries than keys": Case(CROSS, queries=13, keys=3, valid_lens=(2, 3)),
    "additive": Case(ADDITIVE, valid_lens=(3, 6), dtypes=EVERY),
    "additive, lengths per query": Case(replace(ADDITIVE, bias=True), valid_lens=RAGGED),
    "pruned": Case(PRUNED, valid_lens=(3, 6), dtypes=EVERY),
    "pruned, lengths per query": Case(replace(PRUNED, bias=True), valid_lens=RAGGED),
    "pruned, additive": Case(replace(PRUNED, scoring=Additive(17)), valid_lens=(3, 6)),
    "pruned to one head": Case(replace(SELF, num_heads=1), queries=7, valid_lens=(3, 6), self_attention=True),
    "heads wider than hidden": Case(replace(CROSS, head_dim=5), valid_lens=(3, 6)),
    "dropout": Case(CROSS, valid_lens=(3, 6), dropout=0.5, dtypes=EVERY),
    "dropout, lengths per query": Case(CROSS, valid_lens=RAGGED, dropout=0.2),
    "dropout, additive": Case(ADDITIVE, valid_lens=(3, 6), dropout=0.2),
    "scores far below -1e6": Case(BIASED, valid_lens=(3, 6), score_bias=1300.0),
    "large magnitudes": Case(BIASED, valid_lens=(3, 6), spread=30.0),
    "tiny magnitudes": Case(CROSS, valid_lens=(3, 6), spread=1e-3, dtypes=EVERY),
    "common mean": Case(BIASED, valid_lens=RAGGED, mean=5.0, dtypes=EVERY),
    "empty batch": Case(CROSS, batch=0, dtypes=EVERY),
    "no queries": Case(CROSS, queries=0, valid_lens=(3, 6)),
    "digits": Case(DIGITS, batch=64, queries=8, keys=8, self_attention=True, trained="digits", dtypes=EVERY),
}

MINILM = Config(minilm.HIDDEN, minilm.HIDDEN, minilm.HIDDEN, minilm.HIDDEN, minilm.HEADS, bias=True)
REAL = {
    name: Case(MINILM, batch=1, queries=7, keys=7, self_attention=True, installed=name, dtypes=("float64",))
    for name in minilm.names()
}
"""Trained layers, which `trihead verify` asks too where they are installed."""
