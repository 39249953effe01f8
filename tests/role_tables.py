"""Hand-written role tables of real models: what each parameter is, and what it takes over.

A line: name (* counts layers), role, weight layer of its branch (position/layers, ! = the branch's last;
- outside), multipliers folded into it, how the builder draws it (c: constant, i: 1/√fan_in, o: 1/√fan_out,
iL, cL: that times 1/√depth).
"""

_NORM = ("weight", "bias")


def _lines(text):
    return [tuple(line.split()) for line in text.strip().splitlines()]


GPT2 = _lines("""
    transformer.wte.weight               input   -     -        c
    transformer.wpe.weight               input   -     -        c
    transformer.h.*.ln_1.weight          vector  1/2   -        c
    transformer.h.*.ln_1.bias            vector  1/2   -        c
    transformer.h.*.attn.c_attn.weight   hidden  1/2   -        c
    transformer.h.*.attn.c_attn.bias     vector  1/2   -        c
    transformer.h.*.attn.c_proj.weight   hidden  2/2!  branch   cL
    transformer.h.*.attn.c_proj.bias     vector  2/2!  branch   c
    transformer.h.*.ln_2.weight          vector  1/2   -        c
    transformer.h.*.ln_2.bias            vector  1/2   -        c
    transformer.h.*.mlp.c_fc.weight      hidden  1/2   -        c
    transformer.h.*.mlp.c_fc.bias        vector  1/2   -        c
    transformer.h.*.mlp.c_proj.weight    hidden  2/2!  branch   cL
    transformer.h.*.mlp.c_proj.bias      vector  2/2!  branch   c
    transformer.ln_f.weight              vector  -     readout  c
    transformer.ln_f.bias                vector  -     readout  c
""")

LLAMA = _lines("""
    model.embed_tokens.weight                       input    -     -       c
    model.layers.*.self_attn.q_proj.weight          hidden   1/2   -       c
    model.layers.*.self_attn.k_proj.weight          hidden   1/2   -       c
    model.layers.*.self_attn.v_proj.weight          hidden   1/2   -       c
    model.layers.*.self_attn.o_proj.weight          hidden   2/2!  branch  c
    model.layers.*.mlp.gate_proj.weight             hidden   1/2   -       c
    model.layers.*.mlp.up_proj.weight               hidden   1/2   -       c
    model.layers.*.mlp.down_proj.weight             hidden   2/2!  branch  c
    model.layers.*.input_layernorm.weight           vector   1/2   -       c
    model.layers.*.post_attention_layernorm.weight  vector   1/2   -       c
    model.norm.weight                               vector   -     -       c
    lm_head.weight                                  readout  -     -       c
""")

VIT = _lines("""
    vit.embeddings.cls_token                           input    -     -       c
    vit.embeddings.position_embeddings                 input    -     -       c
    vit.embeddings.patch_embeddings.projection.weight  input    -     -       c
    vit.embeddings.patch_embeddings.projection.bias    vector   -     -       c
    vit.layers.*.attention.q_proj.weight               hidden   1/2   -       c
    vit.layers.*.attention.q_proj.bias                 vector   1/2   -       c
    vit.layers.*.attention.k_proj.weight               hidden   1/2   -       c
    vit.layers.*.attention.k_proj.bias                 vector   1/2   -       c
    vit.layers.*.attention.v_proj.weight               hidden   1/2   -       c
    vit.layers.*.attention.v_proj.bias                 vector   1/2   -       c
    vit.layers.*.attention.o_proj.weight               hidden   2/2!  branch  c
    vit.layers.*.attention.o_proj.bias                 vector   2/2!  branch  c
    vit.layers.*.layernorm_before.weight               vector   1/2   -       c
    vit.layers.*.layernorm_before.bias                 vector   1/2   -       c
    vit.layers.*.layernorm_after.weight                vector   1/2   -       c
    vit.layers.*.layernorm_after.bias                  vector   1/2   -       c
    vit.layers.*.mlp.fc1.weight                        hidden   1/2   -       c
    vit.layers.*.mlp.fc1.bias                          vector   1/2   -       c
    vit.layers.*.mlp.fc2.weight                        hidden   2/2!  branch  c
    vit.layers.*.mlp.fc2.bias                          vector   2/2!  branch  c
    vit.layernorm.weight                               vector   -     -       c
    vit.layernorm.bias                                 vector   -     -       c
    classifier.weight                                  readout  -     -       c
    classifier.bias                                    finite   -     -       c
""")


def _resnet(layers, shortcuts):
    """Hugging Face's: two stages; the first layer of a stage that changes the width has its own shape."""
    out = _lines("""
        resnet.embedder.embedder.convolution.weight    input    -  -  o
        resnet.embedder.embedder.normalization.weight  vector   -  -  c
        resnet.embedder.embedder.normalization.bias    vector   -  -  c
        classifier.1.weight                            readout  -  -  i
        classifier.1.bias                              finite   -  -  i
    """)
    for stage in range(2):
        at = f"resnet.encoder.stages.{stage}.layers"
        if stage in shortcuts:
            out += [
                (f"{at}.0.shortcut.convolution.weight", "hidden", "-", "-", "i"),
                *((f"{at}.0.shortcut.normalization.{p}", "vector", "-", "-", "c") for p in _NORM),
                (f"{at}.*.layer.0.convolution.weight", "hidden", f"1/{layers}", "-", "i"),
            ]
        for j in range(layers):
            where = f"{j + 1}/{layers}" + ("!" if j + 1 == layers else "")
            # The branch ends in a norm: its gain and bias take the multiplier, the convolution does not.
            takes = "branch" if j + 1 == layers else "-"
            out.append((f"{at}.*.layer.{j}.convolution.weight", "hidden", where, "-", "i"))
            for p in _NORM:
                out.append((f"{at}.*.layer.{j}.normalization.{p}", "vector", where, takes, "c"))
    return out


RESNET = _resnet(2, {1})
BOTTLENECK = _resnet(3, {0, 1})

CONVOLUTIONS = _lines("""
    stem.weight         input    -     -       c
    blocks.*.c1.weight  hidden   1/2   -       i
    blocks.*.b1.weight  vector   1/2   -       c
    blocks.*.b1.bias    vector   1/2   -       c
    blocks.*.c2.weight  hidden   2/2!  -       i
    blocks.*.b2.weight  vector   2/2!  branch  c
    blocks.*.b2.bias    vector   2/2!  branch  c
    head.weight         readout  -     -       i
""")

MIXER = _lines("""
    stem.conv.weight    input    -     -       c
    blocks.*.n1.weight  vector   1/2   -       c
    blocks.*.n1.bias    vector   1/2   -       c
    blocks.*.n2.weight  vector   1/2   -       c
    blocks.*.n2.bias    vector   1/2   -       c
    blocks.*.t1.weight  finite   1/2   -       c
    blocks.*.t2.weight  finite   2/2!  branch  c
    blocks.*.c1.weight  hidden   1/2   -       i
    blocks.*.c2.weight  hidden   2/2!  branch  i
    norm.0.weight       vector   -     -       c
    norm.0.bias         vector   -     -       c
    head.weight         readout  -     -       i
    head.bias           finite   -     -       i
""")


def own(layers):
    """The project's ResNet in PyTorch's convention."""
    hidden = [
        (f"blocks.*.{j}.weight", "hidden", f"{j + 1}/{layers}", "-", "i") for j in range(layers - 1)
    ]
    last = (f"blocks.*.{layers - 1}.weight", "hidden", f"{layers}/{layers}!", "branch", "i")
    ends = [("u.weight", "input", "-", "-", "c"), ("v.weight", "readout", "-", "-", "i")]
    return [*ends, *hidden, last]
