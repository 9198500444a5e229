"""Compare our networks with their references at full size: the reference's random weights, loaded by us, on 8 images.

In an environment with torch, torchvision, timm, transformers and safetensors

    python benchmarks/parity.py --reference FOLDER [NAME ...]     # writes weights, images and outputs

and then, in one with recipes,

    python benchmarks/parity.py FOLDER [NAME ...]                 # loads, compares, adds rows to results/parity.csv

The tiny networks that the tests load without torch were made by

    python benchmarks/parity.py --fixtures tests/fixtures         # needs what --reference needs

`difference` is the largest absolute difference of the outputs over their standard deviation; `spread` is how much the
outputs of one class differ between images, over the same, to show that the images matter. All in float32, evaluation
mode. Vectors (norms, biases, factors of branches) are drawn anew first, because many begin at 0 or 1, where a wrong one
would not show; BatchNorm has the statistics of the images.
"""

import argparse
import dataclasses
import datetime
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import RESULTS, append

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATH = RESULTS / "parity.csv"
TOLERANCE = 1e-4


@dataclasses.dataclass
class Case:
    """A reference and ours."""

    reference: Callable  # (folder, images) -> (outputs, parameters, versions); writes the weights into the folder
    ours: Callable  # (folder) -> (model from raw images to the outputs, parameters)
    side: int = 224  # of the images
    tolerance: float = TOLERANCE
    inputs: Callable = lambda images: images  # what ours takes for the images
    torch: bool = True  # or else the reference is keras.applications, and is made when it is compared


# ------------------------------------------------------------------------------------------ references (need torch)


def timm_reference(name, folder, images, matrices=False):
    """A model of timm as `model.safetensors`."""
    import timm
    import torch
    from safetensors.torch import save_file

    model = timm.create_model(name, pretrained=False)
    pixels = normalized(images, model.default_cfg["mean"], model.default_cfg["std"])
    shake(model, pixels, matrices)
    save_file(model.state_dict(), folder / "model.safetensors")
    with torch.no_grad():
        outputs = model(pixels)
    return outputs.numpy(), count(model), f"timm {timm.__version__}, torch {torch.__version__}"


def transformers_vit_reference(kind, folder, images):
    """ViT-B/16 of transformers as a folder: `"ViTModel"` (class token) or `"ViTForImageClassification"` (logits)."""
    import torch
    import transformers

    model = getattr(transformers, kind)(transformers.ViTConfig(num_labels=1000))
    pixels = normalized(images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    shake(model, pixels, matrices=True)
    model.save_pretrained(folder)
    with torch.no_grad():
        outputs = model(pixels)
    parameters, versions = count(model), f"transformers {transformers.__version__}, torch {torch.__version__}"
    if kind == "ViTModel":
        return outputs.last_hidden_state[:, 0].numpy(), parameters - count(model.pooler), versions
    return outputs.logits.numpy(), parameters, versions


def clip_reference(output, folder, images):
    """CLIP ViT-B/32 of transformers as a folder: its `"image_embeds"`, `"text_embeds"` or `"logits_per_image"`."""
    import torch
    import transformers

    model = transformers.CLIPModel(transformers.CLIPConfig())
    pixels = normalized(images, CLIP_MEAN, CLIP_STD)
    shake(model, pixels, matrices=True)
    model.save_pretrained(folder)
    with torch.no_grad():
        outputs = model(input_ids=torch.from_numpy(make_texts()), pixel_values=pixels)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return outputs[output].numpy(), count(model), versions


def bert_reference(output, folder, images):
    """BERT base of transformers as a folder; what it calls `output`, of pairs of texts."""
    import torch
    import transformers

    kind = transformers.BertForMaskedLM if output == "logits" else transformers.BertModel
    model = kind(transformers.BertConfig())
    shake(model, None, matrices=True)
    model.save_pretrained(folder)
    with torch.no_grad():
        outputs = model(**bert_inputs(make_pairs()))[output].numpy()
    parameters = count(model) - (count(model.pooler) if output == "last_hidden_state" else 0)
    return outputs, parameters, f"transformers {transformers.__version__}, torch {torch.__version__}"


def bert_inputs(ids, separator=102):
    """Ids as transformers' BERT takes them, with a mask and the number of the text that each belongs to."""
    import torch

    second = (np.cumsum(ids == separator, axis=1) - (ids == separator) > 0) & (ids != 0)
    arrays = {"input_ids": ids, "attention_mask": ids != 0, "token_type_ids": second}
    return {name: torch.from_numpy(array.astype("int64")) for name, array in arrays.items()}


def gpt_reference(folder, images):
    """GPT-2 of transformers as a folder: the logits after the last tokens of texts."""
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    shake(model, None, matrices=True)
    model.save_pretrained(folder)
    with torch.no_grad():
        outputs = model(torch.from_numpy(make_ids())).logits[:, -4:]
    return outputs.numpy(), count(model), f"transformers {transformers.__version__}, torch {torch.__version__}"


def torchvision_reference(name, folder, images):
    """A model of torchvision as `model.pth`."""
    import torch
    import torchvision

    model = getattr(torchvision.models, name)(weights=None)
    if name == "alexnet":  # it has no norms, and torch's kernels are so small that the biases alone would be seen
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(6**0.5)
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    shake(model, pixels, matrices=name.startswith("convnext"))
    torch.save(model.state_dict(), folder / "model.pth")
    with torch.no_grad():
        outputs = model(pixels)
    return outputs.numpy(), count(model), f"torchvision {torchvision.__version__}, torch {torch.__version__}"


def transformers_reference(kind, config, folder, images):
    """A convolutional network of transformers as a folder, `config` a name in transformers with its defaults."""
    import torch
    import transformers

    model = getattr(transformers, kind)(getattr(transformers, config)(num_labels=1000))
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    shake(model, pixels, matrices=kind.startswith("ConvNext"))
    model.save_pretrained(folder)
    with torch.no_grad():
        outputs = model(pixels).logits
    return outputs.numpy(), count(model), f"transformers {transformers.__version__}, torch {torch.__version__}"


def recurrent_reference(cell, folder, images):
    """A torch `nn.LSTM` or `nn.GRU`, two layers in both directions, a linear head on the mean over the real steps."""
    import torch

    torch.manual_seed(0)
    module = torch.nn.ModuleDict(
        {
            "rnn": getattr(torch.nn, cell)(16, 256, num_layers=2, bidirectional=True, batch_first=True),
            "head": torch.nn.Linear(512, 10),
        }
    )
    enlarge(module)
    outputs = recurrent_logits(module, torch.from_numpy(make_series()))
    torch.save(module.state_dict(), folder / "model.pth")
    twice = 4 if cell == "LSTM" else 0  # a second bias that is added to the first: one in ours, except in a GRU
    return outputs, count(module) - twice * 4 * 256, f"torch {torch.__version__}"


def enlarge(module):
    """Make all weights three times as large: torch begins with so little that the outputs of all series are alike."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)


def recurrent_logits(module, series):
    """Logits of a `rnn` and a `head` for series `(examples, length, channels)` that zeros fill up."""
    import torch

    lengths = (series != 0).any(dim=-1).sum(dim=-1)
    packed = torch.nn.utils.rnn.pack_padded_sequence(series, lengths, batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        steps, _ = torch.nn.utils.rnn.pad_packed_sequence(module["rnn"](packed)[0], batch_first=True)
        return module["head"](steps.sum(dim=1) / lengths[:, None]).numpy()


def encoder_decoder_reference(norm_first, folder, images):
    """A torch `nn.Transformer` of the paper's base size, with embeddings, places and logits, as `weights.npz`."""
    import torch

    source, target = make_phrases()
    module = encoder_decoder(norm_first, (1000, 800), width=512, depth=6, heads=8, hidden=2048)
    outputs = encoder_decoder_logits(module, source, target)
    np.savez(folder / "weights.npz", **encoder_decoder_tensors(module))
    return outputs, count(module), f"torch {torch.__version__}"


def encoder_decoder(norm_first, vocabularies, width, depth, heads, hidden):
    """The modules of a torch transformer with new weights. After the sum, torch's own would normalise the end twice."""
    import torch
    from torch import nn

    sizes = {"d_model": width, "nhead": heads, "dim_feedforward": hidden, "norm_first": norm_first, "batch_first": True}
    last = (lambda: nn.LayerNorm(width)) if norm_first else (lambda: None)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**sizes), depth, last(), enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), depth, last())
    parts = {
        "source": nn.Embedding(vocabularies[0], width),
        "target": nn.Embedding(vocabularies[1], width),
        "transformer": nn.Transformer(width, heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True),
        "logits": nn.Linear(width, vocabularies[1]),
    }
    module = nn.ModuleDict(parts)
    shake(module, None, matrices=True)
    with torch.no_grad():
        for part in ("source", "target"):  # which the square root of the width multiplies
            module[part].weight.normal_(std=width**-0.5)
    return module


def encoder_decoder_logits(module, source, target):
    """Logits of `encoder_decoder` for ids `(batch, length)` that zeros fill up."""
    import torch

    width, length = module["source"].embedding_dim, max(source.shape[1], target.shape[1])
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    places = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width).float()
    ids = {"source": torch.from_numpy(source), "target": torch.from_numpy(target)}
    padding = ids["source"] == 0
    with torch.no_grad():
        tokens = {part: module[part](ids[part]) * width**0.5 + places[: ids[part].shape[1]] for part in ids}
        outputs = module["transformer"](
            tokens["source"],
            tokens["target"],
            tgt_mask=torch.triu(torch.ones(target.shape[1], target.shape[1], dtype=torch.bool), diagonal=1),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return module["logits"](outputs).numpy()


def encoder_decoder_tensors(module):
    """The weights of `encoder_decoder` by the paths that our variables have."""
    found, layers = {}, {"self_attn.in_proj": "attention/qkv", "self_attn.out_proj": "attention/output"}
    layers |= {"multihead_attn.in_proj": "cross", "multihead_attn.out_proj": "cross/output", "linear1": "mlp1"}
    layers |= {"linear2": "mlp2", "norm1": "norm1", "norm2": "norm2", "norm3": "norm3"}
    for name, tensor in module.state_dict().items():
        layer, kind = re.fullmatch(r"(.+)[._](weight|bias)", name).groups()
        block = re.fullmatch(r"transformer\.(encoder|decoder)\.layers\.(\d+)\.(.+)", layer)
        if block:
            ours = f"{block[1]}{block[2]}_{layers[block[3]]}"
        else:
            ours = layer.replace("transformer.", "").replace(".norm", "_norm")
        if ours in ("source", "target"):
            found[f"{ours}_embedding/embeddings"] = tensor.numpy()
            continue
        if "norm" in ours:
            kind = {"weight": "gamma", "bias": "beta"}[kind]
        else:
            kind, tensor = ("kernel", tensor.T) if kind == "weight" else ("bias", tensor)
        if ours.endswith("cross"):
            width = tensor.shape[-1] // 3
            found[f"{ours}/query/{kind}"] = tensor[..., :width].numpy()
            found[f"{ours}/key_value/{kind}"] = tensor[..., width:].numpy()
        else:
            found[f"{ours}/{kind}"] = tensor.numpy()
    return found


def make_phrases(count=8, lengths=(24, 12), vocabularies=(1000, 800)):
    """Sources of every length, which zeros fill up, and targets."""
    random = np.random.default_rng(4)
    source, target = (random.integers(1, size, (count, length)) for size, length in zip(vocabularies, lengths, strict=True))
    return source * (np.arange(lengths[0]) < random.integers(1, lengths[0] + 1, (count, 1))), target


def normalized(images, mean, std):
    """Raw images as torch wants them: float, standardised, channels first."""
    import torch

    pixels = (images / 255 - np.asarray(mean)) / np.asarray(std)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype="float32"))


def shake(model, pixels, matrices=False):
    """Draw all vectors anew, give BatchNorm the statistics of the images, and switch to evaluation.

    `matrices` draws all else too, in the size that keeps activations as large as they are: transformers begin with so
    little that a class token hardly sees the image.
    """
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.squeeze().ndim <= 1:
                scale = name.endswith(("weight", "gamma", "layer_scale", "layer_scale_parameter"))
                parameter.uniform_(*((0.5, 1.5) if scale else (-0.2, 0.2)))
            elif matrices:
                parameter.normal_(std=0.5 if "emb" in name and parameter.ndim == 3 else parameter[0].numel() ** -0.5)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
        if norms:
            model.train()(pixels)
    model.eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------- fixtures of the tests (need torch)


def vit_fixtures(folder):
    """Three tiny ViTs with half-precision weights, and their logits, also where an image is not of the trained size."""
    import timm
    import torch
    import transformers
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    torch.manual_seed(0)
    small, large = make_images(32, cell=4)[:4], make_images(48, cell=4)[:4, :, :40]
    half = ((0.5,) * 3, (0.5,) * 3)
    sizes = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2, "num_classes": 3}
    results = {"small": small, "large": large, "versions": f"timm {timm.__version__}, torch {torch.__version__}"}
    for name, arguments in {"token": {}, "average": {"global_pool": "avg", "class_token": False}}.items():
        model = VisionTransformer(img_size=32, **sizes, **arguments)
        shake(model, None, matrices=True)
        tensors = {k: v.half() for k, v in model.state_dict().items()}
        model.load_state_dict(tensors)  # rounded
        save_file(tensors, folder / f"vit_timm_{name}.safetensors")
        other = VisionTransformer(img_size=(48, 40), **sizes, **arguments).eval()
        other.load_state_dict(checkpoint_filter_fn({k: v.float() for k, v in tensors.items()}, other))
        with torch.no_grad():
            results[name] = model(normalized(small, *half)).numpy()
            results[f"{name}_large"] = other(normalized(large, *half)).numpy()
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        num_labels=3,
        layer_norm_eps=1e-3,  # not the default, to show that config.json is read
    )
    model = transformers.ViTForImageClassification(config)
    shake(model, None, matrices=True)
    model.half().save_pretrained(folder / "vit_transformers")
    with torch.no_grad():
        results["transformers"] = model.float()(normalized(small, *half)).logits.numpy()
    np.savez_compressed(folder / "vit_tiny.npz", **results)


def resnet_fixtures(folder):
    """Three tiny ResNets: timm's, timm's D with squeeze-excite, transformers'; and their logits."""
    import timm
    import torch
    import transformers
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    torch.manual_seed(0)
    images = make_images(56, cell=4)[:4, :40]
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    deep = {"stem_width": 4, "stem_type": "deep", "avg_down": True, "block_args": {"attn_layer": "se"}}
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", num_labels=3
    )
    models = {
        "timm": ResNet(Bottleneck, (1, 2, 1, 1), num_classes=3, channels=(4, 8, 8, 8)),
        "timm_d": ResNet(BasicBlock, (1, 2, 1, 1), num_classes=3, channels=(8, 8, 16, 16), **deep),
        "transformers": transformers.ResNetForImageClassification(config),
    }
    results = {"images": images, "versions": f"timm {timm.__version__}, torch {torch.__version__}"}
    for name, model in models.items():
        results[name] = save_half(model, pixels, folder / f"resnet_{name}")
    np.savez_compressed(folder / "resnet_tiny.npz", **results)


def convnext_fixtures(folder):
    """Four tiny ConvNeXts: timm's with matrices and with 1x1 convolutions, torchvision's, transformers'; their logits."""
    import timm
    import torch
    import torchvision
    import transformers
    from timm.models.convnext import ConvNeXt

    torch.manual_seed(0)
    images = make_images(56, cell=4)[:4, :40]
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    depths, widths = (1, 2, 1, 1), (8, 8, 16, 16)
    sizes = {"depths": depths, "dims": widths, "num_classes": 3}
    settings = [
        torchvision.models.convnext.CNBlockConfig(width, after, depth)
        for width, after, depth in zip(widths, (*widths[1:], None), depths, strict=True)
    ]
    config = transformers.ConvNextConfig(hidden_sizes=list(widths), depths=list(depths), num_labels=3)
    models = {
        "timm": ConvNeXt(**sizes),
        "timm_conv": ConvNeXt(**sizes, conv_mlp=True),
        "torchvision": torchvision.models.ConvNeXt(settings, num_classes=3),
        "transformers": transformers.ConvNextForImageClassification(config),
    }
    results = {"images": images, "versions": f"timm {timm.__version__}, torch {torch.__version__}"}
    for name, model in models.items():
        results[name] = save_half(model, pixels, folder / f"convnext_{name}")
    np.savez_compressed(folder / "convnext_tiny.npz", **results)


def alexnet_fixtures(folder):
    """A tiny AlexNet: torchvision's, each layer narrower; and its logits, of images that do not end in 6x6 places."""
    import torch
    import torchvision

    torch.manual_seed(0)
    images = make_images(128, cell=8)[:4, :95, :127]
    model, before = torchvision.models.alexnet(num_classes=3), 3
    for i, width in zip((0, 3, 6, 8, 10), (4, 6, 8, 8, 6), strict=True):
        old = model.features[i]
        model.features[i] = torch.nn.Conv2d(before, width, old.kernel_size, old.stride, old.padding)
        before = width
    model.classifier[1], model.classifier[4] = torch.nn.Linear(6 * 36, 16), torch.nn.Linear(16, 16)
    model.classifier[6] = torch.nn.Linear(16, 3)
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    logits = save_half(model, pixels, folder / "alexnet_torchvision", gain=2**0.5)
    versions = f"torchvision {torchvision.__version__}, torch {torch.__version__}"
    np.savez_compressed(folder / "alexnet_tiny.npz", images=images, torchvision=logits, versions=versions)


def efficientnet_fixtures(folder):
    """A tiny EfficientNetV2-B0: timm's, narrower and with fewer blocks; and its logits."""
    import timm
    import torch
    from timm.models.efficientnet import _gen_efficientnetv2_base

    torch.manual_seed(0)
    images = make_images(56, cell=4)[:4, :40]
    pixels = normalized(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = _gen_efficientnetv2_base(
        "tf_efficientnetv2_b0",
        channel_multiplier=0.14,
        depth_multiplier=(1.0, 1.0, 0.5, 0.3, 0.2, 0.25),  # 1, 2, 1, 1, 1, 2 blocks
        num_classes=3,
        bn_eps=1e-3,
        pad_type="same",
    )
    logits = save_half(model, pixels, folder / "efficientnet_v2_timm")
    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    np.savez_compressed(folder / "efficientnet_v2_tiny.npz", images=images, timm=logits, versions=versions)


def clip_fixtures(folder):
    """A tiny CLIP with half-precision weights, and what it puts out."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "layer_norm_eps": 1e-5}
    vision = {**sizes, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3, "image_size": 32}
    text = {**sizes, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 40}
    config = transformers.CLIPConfig(
        text_config={**text, "max_position_embeddings": 10, "eos_token_id": 30},  # not the highest id
        vision_config={**vision, "patch_size": 8},
        projection_dim=12,
    )
    model = transformers.CLIPModel(config)
    images, texts = make_images(32, cell=4)[:4], make_texts(length=10, vocabulary=40, end=30)[:4]
    pixels = normalized(images, CLIP_MEAN, CLIP_STD)
    shake(model, pixels, matrices=True)
    model.half().save_pretrained(folder / "clip_transformers")
    with torch.no_grad():
        outputs = model.float()(input_ids=torch.from_numpy(texts), pixel_values=pixels)
    results = {name: outputs[name].numpy() for name in ("image_embeds", "text_embeds", "logits_per_image")}
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    np.savez_compressed(folder / "clip_tiny.npz", images=images, texts=texts, versions=versions, **results)


def gpt_fixtures(folder):
    """A tiny GPT-2 with half-precision weights, its logits and what it writes."""
    import torch
    import transformers

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12, "vocab_size": 30}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=29, eos_token_id=29))
    shake(model, None, matrices=True)
    model.half().save_pretrained(folder / "gpt_transformers")
    ids, model = make_ids(4, 7, 30), model.float()
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)).logits.numpy()
        written = model.generate(torch.from_numpy(ids), max_new_tokens=5, do_sample=False, eos_token_id=None).numpy()[:, 7:]
        beams = model.generate(torch.from_numpy(ids), max_new_tokens=5, num_beams=3, do_sample=False, eos_token_id=None)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    arrays = {"ids": ids.astype("int32"), "written": written.astype("int32"), "beams": beams.numpy()[:, 7:].astype("int32")}
    np.savez_compressed(folder / "gpt_tiny.npz", logits=logits, versions=versions, **arrays)


def lstm_fixtures(folder):
    """A tiny LSTM of token ids and a tiny GRU of series, both of torch, and their logits."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    series, results = make_series(length=6, channels=5), {"versions": f"torch {torch.__version__}"}
    ids = np.random.default_rng(2).integers(1, 11, (8, 6)) * (series != 0).any(axis=-1)
    for cell in ("LSTM", "GRU"):
        rnn = getattr(torch.nn, cell)(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        module = torch.nn.ModuleDict({"rnn": rnn, "head": torch.nn.Linear(8, 3)})
        enlarge(module)
        if cell == "LSTM":
            module["words"] = torch.nn.Embedding(11, 5)
            words = module["words"](torch.from_numpy(ids)).detach() * torch.from_numpy(ids != 0)[..., None]
            results |= {"ids": ids.astype("int32"), "lstm": recurrent_logits(module, words)}
            torch.save(module.state_dict(), folder / "lstm_torch.pth")
        else:
            results |= {"series": series, "gru": recurrent_logits(module, torch.from_numpy(series))}
            save_file(module.state_dict(), folder / "gru_torch.safetensors")
    np.savez_compressed(folder / "lstm_tiny.npz", **results)


def transformer_fixtures(folder):
    """A tiny torch transformer with normalisation before and after the sum: weights by our names, and logits."""
    import torch

    source, target = make_phrases(count=3, lengths=(6, 5), vocabularies=(11, 13))
    results = {"source": source.astype("int32"), "target": target.astype("int32"), "versions": f"torch {torch.__version__}"}
    for name, norm_first in {"pre": True, "post": False}.items():
        module = encoder_decoder(norm_first, (11, 13), width=8, depth=2, heads=2, hidden=12)
        tensors = {key: tensor.half() for key, tensor in module.state_dict().items()}
        module.load_state_dict(tensors)  # rounded
        weights = sorted(encoder_decoder_tensors(module).items())  # in one array: a hundred small ones take more room
        results[f"{name}/names"] = [key for key, _ in weights]
        results[f"{name}/values"] = np.concatenate([tensor.reshape(-1) for _, tensor in weights]).astype("float16")
        results[f"{name}/logits"] = encoder_decoder_logits(module, source, target)
    np.savez_compressed(folder / "transformer_tiny.npz", **results)


def bert_fixtures(folder):
    """Three tiny BERTs with half-precision weights: one that guesses, one that classifies, one of sentence-transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    ids = make_pairs(length=10, vocabulary=30, start=2, separator=3)[:4].astype("int32")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(
        **sizes, vocab_size=30, max_position_embeddings=12, layer_norm_eps=1e-3, id2label={0: "bad", 1: "fair", 2: "good"}
    )
    results = {"ids": ids, "versions": f"transformers {transformers.__version__}, torch {torch.__version__}"}
    kinds = {
        "guess": (transformers.BertForMaskedLM, lambda outputs: outputs.logits),
        "classify": (transformers.BertForSequenceClassification, lambda outputs: outputs.logits),
        "sentences": (transformers.BertModel, lambda outputs: outputs.last_hidden_state),
    }
    for name, (kind, output) in kinds.items():
        model = kind(config)
        shake(model, None, matrices=True)
        model.half().save_pretrained(folder / f"bert_{name}")
        with torch.no_grad():
            results[name] = output(model.float()(**bert_inputs(ids, separator=3))).numpy()
    modules = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling"), "2": ("2_Normalize", "Normalize")}
    modules = [
        {"idx": int(i), "name": i, "path": where, "type": f"sentence_transformers.models.{kind}"}
        for i, (where, kind) in modules.items()
    ]
    (folder / "bert_sentences" / "1_Pooling").mkdir(exist_ok=True)
    (folder / "bert_sentences" / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "bert_sentences" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    np.savez_compressed(folder / "bert_tiny.npz", **results)


def save_half(model, pixels, path, gain=1.0):
    """Draw a network's weights, round them to half precision, save them as its library does; return its logits."""
    import torch
    from safetensors.torch import save_file

    shake(model, pixels, matrices=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain if parameter.squeeze().ndim > 1 else 1.0)
    if path.name.endswith("transformers"):
        model.half().save_pretrained(path)
    else:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.load_state_dict(tensors)  # rounded
        if path.name.endswith("torchvision"):
            torch.save(tensors, f"{path}.pth")
        else:
            save_file(tensors, f"{path}.safetensors")
    with torch.no_grad():
        outputs = model.float().eval()(pixels)
    return getattr(outputs, "logits", outputs).numpy()


FIXTURES = [
    alexnet_fixtures,
    bert_fixtures,
    clip_fixtures,
    convnext_fixtures,
    efficientnet_fixtures,
    gpt_fixtures,
    lstm_fixtures,
    resnet_fixtures,
    transformer_fixtures,
    vit_fixtures,
]


# -------------------------------------------------------------------------------------------- ours (need recipes)


def our_logits(family, *, side=224, **arguments):
    """Return a function that builds a family with the weights of a folder; its logits are compared."""

    def build(folder):
        import recipes

        path = folder / "model.safetensors" if "weights" not in arguments else folder / arguments["weights"]
        model = getattr(recipes, family)((side, side, 3), 1000, **{**arguments, "weights": path})
        return model, trainable(model)

    return build


def our_deit3(folder):
    """Our DeiT III; the position of its class token, which is 0, does not count: the reference has none."""
    model, parameters = our_logits("vit", variant="deit_small", layer_scale=1e-6)(folder)
    return model, parameters - model.get_layer("class_token").output.shape[-1]


def keras_reference(name, module, folder, images):
    """A model of keras.applications, its weights as `weights.npz`. Vectors are drawn anew, as in `shake`."""
    import keras

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    pixels = getattr(keras.applications, module).preprocess_input(images.astype("float32"))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name == "normalization" and layer.weights:  # of EfficientNet, whose files bring ImageNet's statistics
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
            layer.finalize_state()
            continue
        for variable in layer.weights:
            if len(variable.shape) == 1:
                limits = (0.5, 1.5) if variable.name == "gamma" else (-0.2, 0.2)
                if layer.name.endswith("_3_bn"):  # branches that add little, as trained ones do: otherwise rounding grows
                    limits = (0.1, 0.3)  # from block to block, to 5e-5 if only the channels are summed in another order
                variable.assign(random.uniform(*limits, variable.shape))
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pixels, training=True)
    tensors = {f"{layer.name}/{v.name}": np.asarray(v) for layer in model.layers for v in layer.weights}
    np.savez(folder / "weights.npz", **tensors)
    outputs = model.predict(pixels, verbose=0)
    return outputs, trainable(model), f"keras.applications {keras.__version__}"


def our_keras_resnet(folder):
    """Our ResNet-50 v1 with the weights of keras.applications'."""
    import recipes
    from recipes.weights import assign
    from recipes.weights.resnet_names import keras_names, keras_tensors

    model = recipes.resnet((224, 224, 3), 1000, variant="50v1")
    assign(model, keras_names(model), keras_tensors(dict(np.load(folder / "weights.npz"))))
    return model, trainable(model)


def our_keras_efficientnet(folder, variant="b0"):
    """Our EfficientNet with the weights of keras.applications'."""
    import recipes
    from recipes.weights import assign
    from recipes.weights.efficientnet_names import keras_names

    model = recipes.efficientnet((224, 224, 3), 1000, variant=variant)
    tensors = dict(np.load(folder / "weights.npz"))
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("normalization/")}
    assign(model, keras_names(model, tensors), tensors)
    return model, trainable(model)


def our_vit_features(folder):
    """Our ViT-B/16 up to the input of its head."""
    import keras

    import recipes

    model = recipes.vit((224, 224, 3), 2, variant="base", weights=folder)
    model = keras.Model(model.inputs, model.get_layer("features").output)
    return model, trainable(model)


def our_clip(output):
    """Return a function that builds our CLIP ViT-B/32 up to an embedding, or with the logits."""

    def build(folder):
        import keras

        import recipes

        model = recipes.clip(variant="base32", weights=folder)
        names = {"image_embeds": "image_embedding", "text_embeds": "text_embedding"}
        if output in names:
            return recipes.features(model, names[output]), trainable(model)
        pairs = keras.Model(model.input, model.output)
        pairs.predict = lambda x, batch_size, verbose: logits(model.predict(x, batch_size=batch_size, verbose=verbose))
        return pairs, trainable(model)

    def logits(pairs):
        return pairs[:, 0] @ pairs[:, 1].T

    return build


def our_bert(output):
    """Return a function that builds our BERT up to the last block, to the pooler, or with the head that guesses."""

    def build(folder):
        import recipes

        if output == "logits":
            model = recipes.bert(task="language_model", weights=folder, separator_id=102, mask_id=103)
            return model, trainable(model)
        pool = {"last_hidden_state": "mean", "pooler_output": "pooler"}[output]
        model = recipes.bert(task="embed", weights=folder, separator_id=102, pool=pool)
        cut = {"last_hidden_state": "block11_norm2", "pooler_output": "pooler"}[output]
        return recipes.features(model, cut), trainable(model)

    return build


def our_gpt(folder):
    """Our GPT-2 up to the logits after the last tokens."""
    import keras

    import recipes

    model = recipes.gpt(variant="gpt2", weights=folder)
    last = keras.layers.Cropping1D((make_ids().shape[1] - 4, 0), dtype="float32")(model.output)
    return keras.Model(model.input, last), trainable(model)


def our_encoder_decoder(norm_first):
    """Return a function that builds our transformer with torch's weights."""

    def build(folder):
        import recipes
        from recipes.weights import assign

        model = recipes.transformer(
            variant="base", vocabulary_size=1000, target_vocabulary_size=800, tied=False, norm_first=norm_first
        )
        tensors = dict(np.load(folder / "weights.npz"))
        assign(model, {name: (name, None) for name in tensors}, tensors)
        return model, trainable(model)

    return build


def our_recurrent(cell):
    """Return a function that builds our LSTM or GRU with the weights of torch's."""

    def build(folder):
        import recipes

        sizes = {"units": 256, "depth": 2, "standardize": False}
        model = recipes.lstm((40, 16), 10, cell=cell, weights=folder / "model.pth", **sizes)
        return model, trainable(model)

    return build


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


# ---------------------------------------------------------------------------------------------------- the table

CASES = {
    "timm resnet18": Case(lambda *io: timm_reference("resnet18", *io), our_logits("resnet", variant="18")),
    "timm resnet50": Case(lambda *io: timm_reference("resnet50", *io), our_logits("resnet", variant="50")),
    "timm resnet50d": Case(lambda *io: timm_reference("resnet50d", *io), our_logits("resnet", variant="50d")),
    "timm seresnet50": Case(
        lambda *io: timm_reference("seresnet50", *io), our_logits("resnet", variant="50", squeeze_excite=True)
    ),
    "timm convnext_atto": Case(lambda *io: timm_reference("convnext_atto", *io, matrices=True), our_logits("convnext")),
    "timm convnext_tiny": Case(
        lambda *io: timm_reference("convnext_tiny", *io, matrices=True), our_logits("convnext", variant="tiny")
    ),
    "torchvision alexnet": Case(
        lambda *io: torchvision_reference("alexnet", *io),
        our_logits("alexnet", variant="torchvision", weights="model.pth"),
    ),
    "torchvision convnext_tiny": Case(
        lambda *io: torchvision_reference("convnext_tiny", *io),
        our_logits("convnext", variant="tiny", weights="model.pth"),
    ),
    "torchvision resnet50": Case(
        lambda *io: torchvision_reference("resnet50", *io), our_logits("resnet", variant="50", weights="model.pth")
    ),
    "transformers ConvNextForImageClassification": Case(
        lambda *io: transformers_reference("ConvNextForImageClassification", "ConvNextConfig", *io),
        our_logits("convnext", variant="tiny", weights="."),
    ),
    "transformers ResNetForImageClassification": Case(
        lambda *io: transformers_reference("ResNetForImageClassification", "ResNetConfig", *io),
        our_logits("resnet", variant="50", weights="."),
    ),
    "keras.applications ResNet50": Case(
        lambda *io: keras_reference("ResNet50", "resnet", *io), our_keras_resnet, tolerance=1e-5, torch=False
    ),
    "keras.applications EfficientNetB0": Case(
        lambda *io: keras_reference("EfficientNetB0", "efficientnet", *io),
        our_keras_efficientnet,
        tolerance=1e-5,
        torch=False,
    ),
    "keras.applications EfficientNetV2B0": Case(
        lambda *io: keras_reference("EfficientNetV2B0", "efficientnet_v2", *io),
        lambda folder: our_keras_efficientnet(folder, "v2b0"),
        tolerance=1e-5,
        torch=False,
    ),
    "timm tf_efficientnet_b0": Case(
        lambda *io: timm_reference("tf_efficientnet_b0", *io), our_logits("efficientnet", variant="b0")
    ),
    "timm tf_efficientnetv2_b0": Case(
        lambda *io: timm_reference("tf_efficientnetv2_b0", *io), our_logits("efficientnet", variant="v2b0")
    ),
    "timm vit_base_patch16_224": Case(
        lambda *io: timm_reference("vit_base_patch16_224", *io, matrices=True), our_logits("vit", variant="base")
    ),
    "timm deit3_small_patch16_224": Case(
        lambda *io: timm_reference("deit3_small_patch16_224", *io, matrices=True), our_deit3
    ),
    **{
        f"transformers CLIPModel {output}": Case(
            lambda *io, output=output: clip_reference(output, *io), our_clip(output), inputs=inputs
        )
        for output, inputs in {
            "image_embeds": lambda images: images,
            "text_embeds": lambda images: make_texts(),
            "logits_per_image": lambda images: {"image": images, "text": make_texts()},
        }.items()
    },
    **{
        f"torch nn.{cell}": Case(
            lambda *io, cell=cell: recurrent_reference(cell, *io),
            our_recurrent(cell.lower()),
            inputs=lambda images: make_series(),
        )
        for cell in ("LSTM", "GRU")
    },
    **{
        f"transformers {name}": Case(
            lambda *io, output=output: bert_reference(output, *io), our_bert(output), inputs=lambda images: make_pairs()
        )
        for name, output in {
            "BertModel": "last_hidden_state",
            "BertModel pooler_output": "pooler_output",
            "BertForMaskedLM": "logits",
        }.items()
    },
    **{
        f"torch nn.Transformer norm_first={norm_first}": Case(
            lambda *io, norm_first=norm_first: encoder_decoder_reference(norm_first, *io),
            our_encoder_decoder(norm_first),
            inputs=lambda images: dict(zip(("source", "target"), make_phrases(), strict=True)),
        )
        for norm_first in (False, True)
    },
    "transformers GPT2LMHeadModel": Case(gpt_reference, our_gpt, inputs=lambda images: make_ids()),
    "transformers ViTModel": Case(lambda *io: transformers_vit_reference("ViTModel", *io), our_vit_features),
    "transformers ViTForImageClassification": Case(
        lambda *io: transformers_vit_reference("ViTForImageClassification", *io),
        our_logits("vit", variant="base", weights="."),
    ),
}


def make_images(side, cell=16):
    """8 images of coarse noise: fine noise would be averaged away, and all images would look the same."""
    cells = -(-side // cell)
    coarse = np.random.default_rng(0).integers(0, 256, (8, cells, cells, 3), dtype=np.uint8)
    return coarse.repeat(cell, axis=1).repeat(cell, axis=2)[:, :side, :side]


def make_series(length=40, channels=16):
    """8 random series of different length, filled up with zeros."""
    series = np.random.default_rng(1).normal(size=(8, length, channels)).astype("float32")
    return series * (np.arange(length) < np.linspace(length, 1, 8, dtype=int)[:, None])[..., None].astype("float32")


def make_ids(texts=8, length=64, vocabulary=50257):
    """Random texts of token ids."""
    return np.random.default_rng(3).integers(1, vocabulary, (texts, length))


def make_texts(length=77, vocabulary=49408, end=49407):
    """8 random texts that end at different places, and anything behind."""
    texts = np.random.default_rng(1).integers(1, vocabulary, (8, length))
    texts[texts == end] = 1
    texts[np.arange(8), np.linspace(1, length - 1, 8, dtype=int)] = end
    return texts


def make_pairs(length=40, vocabulary=30522, start=101, separator=102):
    """8 random pairs of texts, each ended by a separator, filled up with zeros; the last but one is a single text."""
    random = np.random.default_rng(3)
    ids = random.integers(separator + 1, vocabulary, (8, length))
    ends = np.linspace(length - 1, 5, 8, dtype=int)
    for row, end in zip(ids, ends, strict=True):
        row[0], row[end], row[end + 1 :] = start, separator, 0
        row[random.integers(2, end - 1)] = separator
    ids[6, 1 : ends[6]] = separator + 1
    return ids


def write_reference(name, folder):
    """Write the weights of a case, the images and the outputs of the reference."""
    case, folder = CASES[name], folder / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    images = make_images(case.side)
    outputs, parameters, versions = case.reference(folder, images)
    np.savez(folder / "reference.npz", images=images, outputs=outputs, parameters=parameters, versions=versions)
    print(f"{name}: {parameters:,} parameters, outputs {outputs.shape}", flush=True)


def compare(name, folder):
    """Compare a case, print it, add a row to the results; return whether it is within the tolerance."""
    import keras

    import recipes

    case, folder = CASES[name], folder / name.replace(" ", "_")
    if not case.torch:
        write_reference(name, folder.parent)
    stored = np.load(folder / "reference.npz")
    model, parameters = case.ours(folder)
    outputs, expected = model.predict(case.inputs(stored["images"]), batch_size=4, verbose=0), stored["outputs"]
    difference = float(np.abs(outputs - expected).max() / expected.std())
    fits = difference <= case.tolerance and parameters == int(stored["parameters"])
    row = {
        "date": datetime.date.today().isoformat(),
        "reference": name,
        "outputs": "x".join(map(str, expected.shape)),
        "difference": f"{difference:.2e}",
        "tolerance": f"{case.tolerance:.0e}",
        "spread": f"{float(expected.std(axis=0).mean() / expected.std()):.2f}",
        "parameters": parameters,
        "parameters_reference": int(stored["parameters"]),
        "within": fits,
        "made_with": f"{stored['versions']}, keras {keras.__version__} on {keras.backend.backend()}, "
        f"recipes {recipes.__version__}",
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    append(PATH, row)
    return fits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the references lie")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all without one")
    parser.add_argument("--reference", action="store_true", help="write the references (needs torch)")
    parser.add_argument("--fixtures", action="store_true", help="write the tiny networks of the tests (needs torch)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    names = arguments.names or list(CASES)
    if arguments.fixtures:
        for write in FIXTURES:
            write(arguments.folder)
    elif arguments.reference:
        for name in [name for name in names if CASES[name].torch]:
            write_reference(name, arguments.folder)
    else:
        sys.exit(not all([compare(name, arguments.folder) for name in names]))


if __name__ == "__main__":
    main()
