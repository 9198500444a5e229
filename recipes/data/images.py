"""Folders of images, and resizing."""

import concurrent.futures
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
    folders = _folders(path)
    named = {f.name: SPLITS[f.name.lower()] for f in folders if f.name.lower() in SPLITS}
    if "train" in named and len(named) == len(folders):
        if len(set(named.values())) < len(named):
            raise ValueError(f"{path} has more than one folder for validation: {', '.join(sorted(named))}. Keep one.")
        roots = {part: path / name for name, part in named.items()}
    else:
        roots = {"train": path}
    files = {part: _class_files(root) for part, root in roots.items()}
    class_names = tuple(files["train"])
    for part, classes in files.items():
        unseen = sorted(set(classes) - set(class_names))
        if unseen:
            raise ValueError(f"{roots[part]} has classes that {roots['train']} has not: {', '.join(unseen)}.")
    if len(class_names) < 2:
        raise ValueError(
            f"{path} must hold at least two folders of images, one a class. Received: {', '.join(class_names)}."
        )
    if image_size is None:
        first = files["train"][class_names[0]][0]
        image_size, origin = _decode(first, None).shape[:2], first
    else:
        origin = None
    parts = {part: _read(classes, class_names, image_size, origin) for part, classes in files.items()}
    return Source(parts, "classify", len(class_names), class_names)


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


def _class_files(root):
    """Class name to its sorted image files."""
    loose = [e.name for e in root.iterdir() if e.suffix.lower() in EXTENSIONS and not e.name.startswith(".")]
    if loose:
        raise ValueError(f"{root} must hold one folder a class. Move {loose[0]} into its class.")
    classes = {folder.name: _images(folder) for folder in _folders(root)}
    if not classes:
        raise ValueError(f"{root} must hold one folder of images a class. It holds no folder.")
    return classes


def _images(folder):
    files = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            continue
        if entry.is_dir():
            raise ValueError(f"{folder} must hold the images of one class. Move those in {entry.name} up.")
        if entry.suffix.lower() not in EXTENSIONS:
            raise ValueError(f"{entry} is not an image by its ending ({' '.join(EXTENSIONS)}). Remove or convert it.")
        files.append(entry)
    if not files:
        raise ValueError(f"{folder} holds no images. Remove the folder, or fill it.")
    return files


def _read(classes, class_names, size, origin):
    """`(x, y)` of one part; decodes on as many threads as there are cores."""
    files = [(file, label) for label, name in enumerate(class_names) for file in classes.get(name, ())]
    x = np.empty((len(files), *size, 3), "uint8")

    def read(i):
        image = _decode(files[i][0], None if origin else size)
        if image.shape != x.shape[1:]:
            raise ValueError(
                f"The images differ in size: {origin} is {size[0]}x{size[1]} and {files[i][0]} is "
                f"{image.shape[0]}x{image.shape[1]} (height x width). Pass image_size=(height, width)."
            )
        x[i] = image

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(read, i) for i in range(len(files))]
        try:
            for future in futures:  # the first broken file in order, whichever thread met it
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return x, np.array([label for _, label in files], "int32")


def _decode(file, size):
    """One file as an RGB array `(height, width, 3)`, resized to `size` if given."""
    from PIL import Image, ImageOps

    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; what cannot be decoded raises
            with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                if image.mode[0] in "IF":
                    raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}), convert it to 8")
                image = ImageOps.exif_transpose(image)
                if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                image = image.convert("RGB")
                if size is not None:
                    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                return np.asarray(image)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ValueError(f"{file} cannot be read as an image: {error}. Remove or replace it.") from error
