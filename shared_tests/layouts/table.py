"""The table of layouts. To add one: an entry here, and a line of test in meta_tests/test_layouts.py."""

from __future__ import annotations

from shared_tests.layouts.layout import Layout, Stored, book, fused, separate

SQUARE = ("query_size", "key_size", "value_size", "width")
INPUTS = SQUARE[:3]
QKV = tuple(tuple(f"W_{part}.{kind}" for part in "qkv") for kind in ("weight", "bias"))
KERNELS = ("in heads depth", "heads depth out", "heads depth")
KERNEL, VARS = ("/kernel", "/bias"), ("/vars/0", "/vars/1")
IN_OUT = ("in out", "in out", "out")
ROTARY = "rotary positions"
CAUSAL = "with lengths 1 … n per query"

PACKED = fused("in_proj", "out_proj", ending=("_weight", "_bias"))
UNPACKED = (
    *(Stored(f"{part}_proj_weight", (f"W_{part}.weight",), "out in") for part in "qkv"),
    *PACKED[1:],
)
ENCODER_LAYER = tuple(Stored(f"self_attn.{stored.name}", stored.holds, stored.axes) for stored in PACKED)
C_ATTN = fused("c_attn", "c_proj", "in out")
C_ATTN_CROSS = (
    Stored("q_attn.weight", ("W_q.weight",), "in out"),
    Stored("q_attn.bias", ("W_q.bias",), "out"),
    Stored("c_attn.weight", ("W_k.weight", "W_v.weight"), "in out"),
    Stored("c_attn.bias", ("W_k.bias", "W_v.bias"), "out"),
    *C_ATTN[1::2],
)
BEIT = (
    *fused("qkv", "proj")[:2],
    Stored("q_bias", ("W_q.bias",), "out"),
    Stored("v_bias", ("W_v.bias",), "out"),
    Stored("proj.bias", ("W_o.bias",), "out"),
)
ORT_NAMES = (("W", "b"), ("weights", "bias"), ("qkv_weight", "qkv_bias"))
ORT = tuple((Stored(weight, QKV[0], "in out"), Stored(bias, QKV[1], "out")) for weight, bias in ORT_NAMES)
FLAX = separate("query key value out", KERNELS, KERNEL)

_ENTRIES = (
    Layout("book", "the book's PyTorch class; torch_impl", (book((".weight", ".bias"), "out in"),), layer="torch:Book"),
    Layout("book-jax", "the book's flax class; jax_impl", (book(KERNEL, "in out"),), layer="jax:Book"),
    Layout(
        "book-tf",
        "the book's Keras class; tf_impl",
        (book(VARS, "in out"), separate("dense dense_1 dense_2 dense_3", IN_OUT, KERNEL)),
        layer="tf:Book",
    ),
    Layout(
        "book-paddle",
        "the book's Paddle class, with PyTorch's names",
        (book((".weight", ".bias"), "in out"),),
        layer="paddle:Book",
    ),
    Layout(
        "torch",
        "torch.nn.MultiheadAttention, packed or with kdim and vdim; ViT of torchvision",
        (PACKED, UNPACKED),
        hidden=("query_size", "width"),
        layer="torch:Multihead",
    ),
    Layout(
        "torch-encoder-layer",
        "torch.nn.TransformerEncoderLayer",
        (ENCODER_LAYER,),
        hidden=SQUARE,
        beside=("linear1", "linear2", "norm1", "norm2", "norm3", "multihead_attn"),
        layer="torch:EncoderLayer",
    ),
    Layout("nnx", "flax.nnx.MultiHeadAttention", (FLAX,), same_keys=True, grouped=True, layer="jax:Nnx"),
    Layout("linen", "flax.linen.MultiHeadDotProductAttention", (FLAX,), layer="jax:Linen"),
    Layout(
        "keras",
        "keras.layers.MultiHeadAttention; keras-hub",
        (
            separate("query key value attention_output", KERNELS, KERNEL),
            separate("query_dense key_dense value_dense output_dense", KERNELS, VARS),
        ),
        layer="tf:Keras",
    ),
    Layout(
        "bert",
        "BERT, RoBERTa, ELECTRA",
        (separate("self.query self.key self.value output.dense"),),
        hidden=("query_size", "width"),
        bias="always",
        layer="transformers:Bert",
    ),
    Layout(
        "distilbert",
        "DistilBERT",
        (separate("q_lin k_lin v_lin out_lin"),),
        hidden=SQUARE,
        bias="always",
        layer="transformers:DistilBert",
    ),
    Layout(
        "vit-hf",
        "ViT of Hugging Face, as it is stored",
        (
            separate("attention.query attention.key attention.value output.dense"),
            separate("q_proj k_proj v_proj o_proj"),
        ),
        hidden=SQUARE,
        layer="transformers:ViT",
    ),
    Layout(
        "gpt2",
        "GPT-2; its cross attention is read too",
        (C_ATTN, C_ATTN_CROSS),
        lengths=CAUSAL,
        hidden=SQUARE,
        bias="always",
        layer="decoders:Gpt2",
    ),
    Layout(
        "gpt2-cross",
        "GPT-2's cross attention",
        (C_ATTN_CROSS,),
        hidden=SQUARE,
        bias="always",
        layer="decoders:Gpt2Cross",
    ),
    Layout(
        "nanogpt",
        "nanoGPT, minGPT: GPT-2's names, PyTorch's orientation",
        (fused("c_attn", "c_proj"),),
        lengths=CAUSAL,
        hidden=SQUARE,
        layer="torch:NanoGpt",
    ),
    Layout(
        "bigcode",
        "GPT-BigCode, StarCoder",
        (fused("c_attn", "c_proj", order="by group"),),
        lengths=CAUSAL,
        hidden=SQUARE,
        bias="always",
        grouped=True,
        layer="decoders:BigCode",
    ),
    Layout(
        "gpt-neox",
        "GPT-NeoX, Pythia, Bloom, Falcon",
        (fused("query_key_value", "dense", order="by group"),),
        differs=f"{ROTARY} (NeoX, Falcon), ALiBi (Bloom)",
        hidden=SQUARE,
        grouped=True,
        layer="decoders:NeoX",
    ),
    Layout(
        "codegen",
        "CodeGen",
        (fused("qkv_proj", "out_proj", order="blocks", parts="qvk"),),
        differs=ROTARY,
        hidden=SQUARE,
        bias="never",
        layer="decoders:CodeGen",
    ),
    Layout(
        "opt",
        "OPT, CLIP, BART, Whisper",
        (separate("q_proj k_proj v_proj out_proj"),),
        hidden=("query_size", "width"),
        layer="transformers:Opt",
    ),
    Layout(
        "llama",
        "Llama, Mistral, Qwen2",
        (separate("q_proj k_proj v_proj o_proj"),),
        differs=ROTARY,
        hidden=("query_size",),
        grouped=True,
        layer="decoders:Llama",
    ),
    Layout(
        "phi3",
        "Phi-3",
        (fused("qkv_proj", "o_proj"),),
        differs=ROTARY,
        hidden=INPUTS,
        bias="never",
        grouped=True,
        layer="decoders:Phi3",
    ),
    Layout("vit-timm", "ViT of timm", (fused("qkv", "proj"),), hidden=SQUARE, layer="timm:ViT"),
    Layout(
        "beit",
        "BEiT of timm",
        (BEIT,),
        differs="relative positions",
        hidden=SQUARE,
        no_bias=("W_k.bias",),
        beside=("relative_position_bias_table", "relative_position_index"),
        layer="timm:Beit",
    ),
    Layout(
        "equinox",
        "equinox.nn.MultiheadAttention",
        (separate("query_proj key_proj value_proj output_proj"),),
        layer="equinox:Equinox",
    ),
    Layout(
        "haiku",
        "haiku.MultiHeadAttention",
        (separate("query key value linear", IN_OUT, ("/w", "/b")),),
        layer="haiku:Haiku",
    ),
    Layout("ort", "com.microsoft.Attention of ONNX Runtime, up to W_o", ORT, output=False, layer="onnx:Ort"),
    Layout(
        "t5",
        "T5",
        (separate("q k v o"),),
        differs="no scaling, relative positions",
        hidden=INPUTS,
        bias="never",
        beside=("relative_attention_bias",),
        layer="transformers:T5",
    ),
)
LAYOUTS = {layout.name: layout for layout in _ENTRIES}


def layout_named(name: str) -> Layout:
    """The layout of that name. Raises ValueError if there is none."""
    if name not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {name}")
    return LAYOUTS[name]


def as_markdown() -> str:
    """The table for the guide."""
    rows = [("layout", "used by", "the function"), ("---",) * 3]
    rows += [(f"`{layout.name}`", layout.used_by, layout.function) for layout in LAYOUTS.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
