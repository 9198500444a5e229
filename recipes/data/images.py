"""Folders of images, and resizing."""

import concurrent.futures
import contextlib
import os
import warnings

import numpy as np

from recipes.data.loading import Source

# Raster formats that Pillow decodes by itself; others (EPS) would start a program.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm"),
}
EXTENSIONS = tuple(extension for extensions in FORMATS.values() for extension in extensions)
LITTER = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders of images
SPLITS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}


def read_folder(path, image_size):
    """Read a folder of class folders of images, or one of `train`, `test`, `val` folders of such folders."""
    files, class_names = list_images(path)
    if image_size is None:
        origin = files["train"][0][0]
        image_size = decode(origin).shape[:2]
    else:
        origin = None
    parts = {part: _read(listed, image_size, origin) for part, listed in files.items()}
    return Source(parts, "classify", len(class_names), class_names)


def list_images(path, classes=None, foreign=None):
    """List what `read_folder` reads.

    Args:
        path: The folder, a `pathlib.Path`.
        classes: Names of the class folders to take, in the order of their ids; `None`: all, by name.
        foreign: List that gets the files which are no images by their endings; `None` to refuse those.

    Returns:
        `({part: [(file, class id), ...]}, class_names)`, sorted by class and file name.
    """
    folders = _folders(path)
    named = {f.name: SPLITS[f.name.lower()] for f in folders if f.name.lower() in SPLITS}
    if "train" in named and len(named) == len(folders):
        if len(set(named.values())) < len(named):
            raise ValueError(f"{path} has more than one folder for validation: {', '.join(sorted(named))}. Keep one.")
        roots = {part: path / name for name, part in named.items()}
    else:
        roots = {"train": path}
    files = {part: _class_files(root, classes, foreign) for part, root in roots.items()}
    class_names = tuple(classes or files["train"])
    for part, found in files.items():
        unseen = sorted(set(found) - set(class_names))
        if unseen:
            raise ValueError(f"{roots[part]} has classes that {roots['train']} has not: {', '.join(unseen)}.")
    if len(class_names) < 2:
        raise ValueError(
            f"{path} must hold at least two folders of images, one a class. Received: {', '.join(class_names)}."
        )
    return {
        part: [(file, label) for label, name in enumerate(class_names) for file in found.get(name, ())]
        for part, found in files.items()
    }, class_names


def resize(images, size):
    """Resize uint8 images `(samples, height, width, channels)` to `(height, width)`, bilinear with antialiasing."""
    if images[0].dtype != np.uint8 or images[0].ndim != 3 or images[0].shape[-1] not in (1, 3):
        raise ValueError(
            "image_size applies to uint8 images of 1 or 3 channels. "
            f"Received: {images[0].dtype} samples of shape {images[0].shape}. Leave image_size out."
        )
    from PIL import Image

    resized = np.empty((len(images), *size, images[0].shape[-1]), "uint8")
    for i, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        resized[i] = np.asarray(picture).reshape(resized.shape[1:])
    return resized


def _folders(path):
    return sorted((e for e in path.iterdir() if e.is_dir() and not e.name.startswith(".")), key=lambda e: e.name)


def _class_files(root, classes, foreign):
    """Class name to its sorted image files."""
    loose = [e.name for e in root.iterdir() if e.suffix.lower() in EXTENSIONS and not e.name.startswith(".")]
    if loose:
        raise ValueError(f"{root} must hold one folder a class. Move {loose[0]} into its class.")
    found = {folder.name: folder for folder in _folders(root)}
    if not found:
        raise ValueError(f"{root} must hold one folder of images a class. It holds no folder.")
    missing = [name for name in classes or () if name not in found]
    if missing:
        raise ValueError(f"classes must name folders of {root}: {', '.join(found)}. Received: {missing[0]!r}")
    return {name: _images(found[name], foreign) for name in classes or found}


def _images(folder, foreign):
    files = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            continue
        if entry.is_dir():
            raise ValueError(f"{folder} must hold the images of one class. Move those in {entry.name} up.")
        if entry.suffix.lower() in EXTENSIONS:
            files.append(entry)
        elif foreign is None:
            raise ValueError(f"{entry} is not an image by its ending ({' '.join(EXTENSIONS)}). Remove or convert it.")
        else:
            foreign.append(entry)
    if not files:
        raise ValueError(f"{folder} holds no images. Remove the folder, or fill it.")
    return files


def _read(files, size, origin):
    """`(x, y)` of one part; decodes on as many threads as there are cores."""
    x = np.empty((len(files), *size, 3), "uint8")

    def read(i):
        image = decode(files[i][0], None if origin else size)
        if image.shape != x.shape[1:]:
            raise ValueError(
                f"The images differ in size: {origin} is {size[0]}x{size[1]} and {files[i][0]} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width). Pass image_size=(height, width)."
            )
        x[i] = image

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool, quiet():
        futures = [pool.submit(read, i) for i in range(len(files))]
        try:
            for future in futures:  # the first broken file in order, whichever thread met it
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return x, np.array([label for _, label in files], "int32")


@contextlib.contextmanager
def quiet():
    """Pillow's warnings of odd metadata off, for all threads; what cannot be decoded raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(file, size=None, *, channels=3, fit="squash"):
    """Decode one file, upright, on white where it is transparent, the first of its frames.

    Args:
        file: Path.
        size: `(height, width)` to resize to, or `None`.
        channels: 3, or 1 for grey.
        fit: What becomes of another aspect ratio: `"squash"`; `"crop"` to the middle; `"pad"` with black.

    Returns:
        Array `(height, width, channels)` of uint8.
    """
    from PIL import Image, ImageOps

    try:
        with open_image(file) as image:
            if size is not None:  # a much larger JPEG is decoded at a half, quarter or eighth of its size, which is fast
                image.draft(None, (2 * max(size), 2 * max(size)))
            image = ImageOps.exif_transpose(image)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB" if channels == 3 else "L")
            if size is not None:
                image = _resized(image, (size[1], size[0]), fit)
            return np.asarray(image).reshape(image.height, image.width, channels)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ValueError(f"{file} cannot be read as an image: {error}. Remove or replace it.") from error


def open_image(file):
    """Open a file with Pillow: our formats only, of 8 bits, and of at most `PIL.Image.MAX_IMAGE_PIXELS` pixels."""
    from PIL import Image

    Image.init()
    image = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    fault = None
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        fault = f"it has {image.width}x{image.height} pixels, more than PIL.Image.MAX_IMAGE_PIXELS"
    if image.mode[0] in "IF":
        fault = f"it has more than 8 bits a channel (mode {image.mode}), convert it to 8"
    if fault:
        image.close()
        raise ValueError(fault)
    return image


def _resized(image, size, fit):
    """An image of Pillow in `(width, height)`."""
    from PIL import Image, ImageOps

    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)
