"""Their names for weights and ours: LXMERT and X-LXMERT, BERT, the authors' generator."""

# Their module name: our module name. "#" stands for a layer's number.
LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention.norm",
    "intermediate.dense": "feed_forward.expand",
    "output.dense": "feed_forward.contract",
    "output.LayerNorm": "feed_forward.norm",
}
CROSS_LAYER = {
    "visual_attention.att.query": "cross.query",
    "visual_attention.att.key": "cross.key",
    "visual_attention.att.value": "cross.value",
    "visual_attention.output.dense": "cross.output",
    "visual_attention.output.LayerNorm": "cross.norm",
    "lang_self_att.self.query": "words.attention.query",
    "lang_self_att.self.key": "words.attention.key",
    "lang_self_att.self.value": "words.attention.value",
    "lang_self_att.output.dense": "words.attention.output",
    "lang_self_att.output.LayerNorm": "words.attention.norm",
    "lang_inter.dense": "words.feed_forward.expand",
    "lang_output.dense": "words.feed_forward.contract",
    "lang_output.LayerNorm": "words.feed_forward.norm",
    "visn_self_att.self.query": "cells.attention.query",
    "visn_self_att.self.key": "cells.attention.key",
    "visn_self_att.self.value": "cells.attention.value",
    "visn_self_att.output.dense": "cells.attention.output",
    "visn_self_att.output.LayerNorm": "cells.attention.norm",
    "visn_inter.dense": "cells.feed_forward.expand",
    "visn_output.dense": "cells.feed_forward.contract",
    "visn_output.LayerNorm": "cells.feed_forward.norm",
}
LXMERT = {
    "embeddings.word_embeddings": "word_embedding.words",
    "embeddings.position_embeddings": "word_embedding.positions",
    "embeddings.token_type_embeddings": "word_embedding.types",
    "embeddings.LayerNorm": "word_embedding.norm",
    "encoder.visn_fc.visn_fc": "cell_embedding.feature",
    "encoder.visn_fc.visn_layer_norm": "cell_embedding.feature_norm",
    "encoder.visn_fc.box_fc": "cell_embedding.box",
    "encoder.visn_fc.box_layer_norm": "cell_embedding.box_norm",
    **{f"encoder.layer.#.{a}": f"encoder.language.#.{b}" for a, b in LAYER.items()},
    **{f"encoder.r_layers.#.{a}": f"encoder.visual.#.{b}" for a, b in LAYER.items()},
    **{f"encoder.x_layers.#.{a}": f"encoder.cross.#.{b}" for a, b in CROSS_LAYER.items()},
    "pooler.dense": "pooler",
    "cls.predictions.transform.dense": "word_transform.dense",
    "cls.predictions.transform.LayerNorm": "word_transform.norm",
    "cls.predictions.decoder": "word_embedding.words",  # tied
    "cls.seq_relationship": "match_head",
    "obj_predict_head.transform.dense": "code_transform.dense",
    "obj_predict_head.transform.LayerNorm": "code_transform.norm",
    "obj_predict_head.linear_feat": "code_feature",
    "answer_head.logit_fc.0": "answer_head.0",
    "answer_head.logit_fc.2": "answer_head.2",
    "answer_head.logit_fc.3": "answer_head.3",
}
SINGLE = {  # whole keys
    "mask_feat": "mask_feature",
    "cls.predictions.bias": "word_bias",
    "cls.predictions.decoder.bias": "word_bias",  # tied, in some versions
    "obj_predict_head.out_cluster.weight": "centroids",
    "obj_predict_head.out_cluster.bias": "code_bias",
    "vis_emb.weight": "centroids",  # tied
}
BERT_PARTS = ("embeddings.", "encoder.layer.", "pooler.", "cls.")  # of the two tables above, what BERT has
LEFT_OUT = {  # patterns of keys that have no place here: why
    r"obj_predict_head\.(decoder_dict\.(obj|attr|feat)|out_(obj|attr))\.(weight|bias)": (
        "LXMERT's heads for detector labels, which codes replace"
    ),
    r"embeddings\.position_ids": "the numbers 0, 1, 2 and so on, which old versions stored",
}
GENERATOR = {
    "bottleneck_emb.0": "bottleneck",
    "learned_init_conv.0": "start",
    "style_init_conv.0": "style",
    **{
        f"resblocks.#.cbn{i}.{a}": f"blocks.#.norm{i}.{b}"
        for i in (1, 2)
        for a, b in {"shared.0": "shared", "gamma": "gamma", "beta": "beta"}.items()
    },
    "resblocks.#.conv1": "blocks.#.conv1",
    "resblocks.#.conv2": "blocks.#.conv2",
    "resblocks.#.res_branch.1": "blocks.#.skip",
    "to_RGB_blocks.#.conv": "to_rgb.#",
}
NOISE = {f"resblocks.#.noise{i}.weight": f"blocks.#.noise{i}" for i in (1, 2)}
