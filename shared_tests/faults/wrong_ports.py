"""Wrong ports: docs/my_port.py with one thing changed, each of which the judge must fail."""

SPLIT = "q, k, v = (split"
WRONG_PORTS = {
    "no scale": ("/ np.sqrt(q.shape[-1], dtype=q.dtype)", ""),
    "scale of the whole width": ("np.sqrt(q.shape[-1]", "np.sqrt(heads * q.shape[-1]"),
    "mask off by one": (">= per_query", "> per_query"),
    "fill of -1e6": ("np.finfo(q.dtype).min", "-1e6"),
    "fill of -1e9": ("np.finfo(q.dtype).min", "-1e9"),
    "fill of -1e30": ("np.finfo(q.dtype).min", "-1e30"),
    "a mask only if any length is positive": (
        "if valid_lens is not None",
        "if valid_lens is not None and valid_lens.any()",
    ),
    "exits": (SPLIT, "raise SystemExit(0); " + SPLIT),
    "fill of -1e4": ("np.finfo(q.dtype).min", "-1e4"),
    "fill of minus infinity": ("np.finfo(q.dtype).min", "-np.inf"),
    "mask after the softmax": (
        "context = attention @ v",
        "context = (attention if valid_lens is None else attention * ~masked) @ v",
    ),
    "lengths of the first query": ("per_query[:, None, :, None]", "per_query[:, None, :1, None]"),
    "lengths of the next entry": ("per_query[:, None, :, None]", "np.roll(per_query, 1, axis=0)[:, None, :, None]"),
    "lengths tiled over heads": (
        "per_query[:, None, :, None]",
        "np.tile(per_query, (heads, 1)).reshape(len(per_query), heads, -1)[..., None]",
    ),
    "lengths that wrap": (">= per_query[", ">= (per_query % (k.shape[2] + 1))["),
    "negative lengths from the end": (">= per_query", ">= np.where(per_query < 0, k.shape[2] + per_query, per_query)"),
    "heads interleaved": (
        "x.reshape(batch, length, heads, hidden // heads).swapaxes(1, 2)",
        "x.reshape(batch, length, hidden // heads, heads).transpose(0, 3, 1, 2)",
    ),
    "heads reversed on the way out": ("context.swapaxes(1, 2)", "context[:, ::-1].swapaxes(1, 2)"),
    "softmax over queries": ("axis=-1", "axis=-2"),
    "no maximum taken away": ("scores - scores.max(axis=-1, keepdims=True)", "scores"),
    "softmax in float32": ("np.exp(scores -", "np.exp(scores.astype(np.float32) -"),
    "inputs through float32": ("return x.reshape", "x = x.astype(np.float32).astype(x.dtype); return x.reshape"),
    "weights in half precision": ("@ v", ".astype(np.float16).astype(q.dtype) @ v"),
    "queries in 11 bits": ("scores = q @", "scores = q.astype(np.float16).astype(q.dtype) @"),
    "values of the next key": ("@ v", "@ np.roll(v, 1, axis=2)"),
    "output weight transposed": ('project(joined, "W_o")', 'joined @ weights["W_o.weight"]'),
    "no output bias": ("in weights else", 'in weights and name != "W_o" else'),
    "no query bias": ("in weights else", 'in weights and name != "W_q" else'),
    "weights averaged over heads": (
        '"W_o"), attention',
        '"W_o"), attention.mean(axis=1, keepdims=True) * np.ones_like(attention)',
    ),
    "weights of other heads": ('"W_o"), attention', '"W_o"), attention[:, ::-1]'),
    "weights without heads": ('"W_o"), attention', '"W_o"), attention.reshape(-1, *attention.shape[2:])'),
    "output in float64": ('"W_o"), attention', '"W_o").astype(np.float64), attention'),
    "softened denominator": ("powers.sum(axis=-1, keepdims=True)", "(powers.sum(axis=-1, keepdims=True) + 1e-6)"),
    "one NaN": ("joined =", "context[context == context.max(initial=0)] = np.nan; joined ="),
    "writes into the queries": (SPLIT, "queries *= -1; queries *= -1 + 1e-3; " + SPLIT),
    "writes into the lengths": (">= per_query", ">= np.minimum(per_query, k.shape[2], out=per_query)"),
    "writes into the weights": (SPLIT, 'weights["W_o.weight"] *= 1 + 1e-3; ' + SPLIT),
    "another answer every time": (
        SPLIT,
        "self.n = not getattr(self, 'n', True); queries = queries * queries.dtype.type(1 + 1e-3 * self.n); " + SPLIT,
    ),
    "a mask kept for the next call": (
        "scores = np.where(masked",
        "weights.setdefault(f'mask {masked.shape}', masked); masked = weights[f'mask {masked.shape}']\n"
        "            scores = np.where(masked",
    ),
    "no room for an empty batch": (SPLIT, "queries[0]; " + SPLIT),
}
"""What is wrong: the text of docs/my_port.py that is replaced, and by what."""
