"""Small real checkpoints, written by transformers itself, and bundles made of them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from inference.bundle import Bundle, read_bundle, seal_bundle

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import tokenizers
import transformers as hf

hf.utils.logging.disable_progress_bar()
# As in the device's process: threads that wait for a core take longer than one that has it.
torch.set_num_threads(1)

SIDE = 64
MANIFEST = 'name = "people"\nversion = "1"\n'
DETECTOR = '[detector]\nmodel = "detector"\nlabels = ["person"]\nthreshold = 0.5\n'
GENDER = '[attributes.gender]\nmodel = "gender"\nkind = "label"\n'
AGE = '[attributes.age]\nmodel = "age"\nkind = "number"\n'
EMBEDDER = '[embedder]\nmodel = "embedder"\n'
SQUARE = {"height": SIDE, "width": SIDE}
WORDS = ("<pad>", "<s>", "</s>", "<unk>", "a", "red", "blue", "car", "person", "of", "with")
"""What the text towers know."""


def names(*labels: str) -> dict[str, Any]:
    """A configuration's labels."""
    return {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}


def write_detector(
    directory: Path, family: str, *labels: str, seed: int = 0, tokens: int = 10
) -> Any:
    """A random detector of `rt_detr_v2`, `d_fine` or `yolos`; returns the model.

    `tokens` is how much a YOLOS detects at most.
    """
    torch.manual_seed(seed)
    known = names(*(labels or ("person", "car", "dog")))
    model: Any
    if family == "yolos":
        model = hf.YolosForObjectDetection(
            hf.YolosConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                image_size=[SIDE, SIDE], patch_size=16, num_detection_tokens=tokens,
                use_mid_position_embeddings=False, **known,
            )
        )  # fmt: skip
        # They begin as zeros: all would detect the same.
        torch.nn.init.normal_(model.vit.embeddings.detection_tokens, std=3.0)
        processor: Any = hf.YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    else:
        model = _query_detector(family, known)
        processor = hf.RTDetrImageProcessorPil(size=SQUARE)
    return _save(directory, model, processor)


def _query_detector(family: str, known: Mapping[str, Any]) -> Any:
    backbone: dict[str, Any] = {
        "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
        "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"],
    }  # fmt: skip
    size: dict[str, Any] = {
        "encoder_hidden_dim": 16, "encoder_in_channels": [8, 16, 16], "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2, "d_model": 16, "num_queries": 12, "decoder_layers": 2,
        "decoder_ffn_dim": 16, "decoder_attention_heads": 2, "num_denoising": 0,
        "decoder_in_channels": [16, 16, 16],
    }  # fmt: skip
    if family == "rt_detr_v2":
        resnet = hf.RTDetrResNetConfig(**backbone)
        return hf.RTDetrV2ForObjectDetection(
            hf.RTDetrV2Config(backbone_config=resnet, **size, **known)
        )
    layers = hf.HGNetV2Config(
        stem_channels=[3, 8, 8], embedding_size=8, hidden_sizes=[8, 8, 16, 16],
        stage_in_channels=[8, 8, 8, 16], stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 8, 16, 16], stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    return hf.DFineForObjectDetection(hf.DFineConfig(backbone_config=layers, **size, **known))


def write_classifier(directory: Path, *labels: str, seed: int = 0) -> Any:
    """A random classifier of pictures; with one label, a model that gives a number."""
    torch.manual_seed(seed)
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=SIDE, patch_size=16, **names(*labels),
    )  # fmt: skip
    return _save(
        directory, hf.ViTForImageClassification(config), hf.ViTImageProcessorPil(size=SQUARE)
    )


def write_embedder(directory: Path, family: str, seed: int = 0) -> Any:
    """A random `clip` or `siglip`, with its text tower, or the former's `clip_vision_model`."""
    torch.manual_seed(seed)
    tower: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "image_size": SIDE, "patch_size": 16,
    }  # fmt: skip
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20,
            "intermediate_size": 16, "max_position_embeddings": 8, "projection_dim": 24,
            "eos_token_id": WORDS.index("</s>")}  # fmt: skip
    model: Any
    if family == "siglip":
        model = hf.SiglipModel(hf.SiglipConfig(vision_config=tower, text_config=text))
        return _save(directory, model, hf.SiglipImageProcessorPil(size=SQUARE))
    vision = tower | {"projection_dim": 24}
    if family == "clip":
        both = hf.CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
        model = hf.CLIPModel(both)
    else:
        model = hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**vision))
    processor = hf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    return _save(directory, model, processor)


def write_tokenizer(directory: Path) -> Any:
    """A tokenizer of whole words in lower case, with an end, as `tokenizer.json`."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=WORDS[3]))
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=WORDS[0], eos_token=WORDS[2]
    )
    fast.save_pretrained(directory)
    return fast


def write_bundle(root: Path, *tables: str) -> Bundle:
    """Seal what the model directories under `root` hold, and read it."""
    (root / "bundle.toml").write_text("\n".join([MANIFEST, *tables]))
    seal_bundle(root)
    return read_bundle(root)


def _save(directory: Path, model: Any, processor: Any) -> Any:
    model.eval().save_pretrained(directory)
    processor.save_pretrained(directory)
    return model
