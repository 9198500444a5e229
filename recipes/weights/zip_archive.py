"""Open a zip archive of a stranger: members stored as they are, one behind the other, and nothing between or around them."""

import re
import struct
import zipfile

MAGIC = b"PK\x03\x04"
MAX_MEMBERS = 20_000
ERRORS = (zipfile.BadZipFile, ValueError, RuntimeError, OverflowError, EOFError, OSError, struct.error, NotImplementedError)


def open_archive(file, size, refuse, check_names):
    """Return the archive and its `ZipInfo`s in the order of their places.

    Args:
        file: Binary file.
        size: Its length in bytes.
        refuse: Function of a rule and a member that raises `UnsafeFileError`.
        check_names: Function of these infos that refuses what the kind of archive does not have; called first.
    """
    _check_end(file, size, refuse)
    try:
        archive = zipfile.ZipFile(file)
    except ERRORS as error:
        refuse(f"the zip archive's directory is damaged ({error})")
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    check_names(infos)
    seen, end = set(), 0
    for info in infos:
        shown = ascii(info.orig_filename[:80])
        if info.filename != info.orig_filename:
            refuse("the member has a malformed name", shown)
        if info.filename in seen:
            refuse("the archive has two members of that name", shown)
        if info.flag_bits & 1:
            refuse("the member is encrypted", shown)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            refuse("the member is compressed, which neither Keras nor torch ever does", shown)
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            refuse("the member is a symbolic link", shown)
        gap = info.header_offset - end  # behind a member stand its checksum and sizes again, 24 bytes at most
        file.seek(max(0, info.header_offset))
        header = file.read(30)
        if not 0 <= gap <= (24 if seen else 0) or len(header) < 30 or not header.startswith(MAGIC):
            refuse("members overlap or foreign bytes stand between them", shown)
        end = info.header_offset + 30 + sum(struct.unpack("<26xHH", header)) + info.file_size
        seen.add(info.filename)
    if not 0 <= archive.start_dir - end <= 24:
        refuse("members overlap or foreign bytes follow them")
    return archive, infos


def read_member(archive, info, refuse):
    """Return the bytes of a member, whose checksum must be right."""
    try:
        return archive.read(info)
    except ERRORS as error:
        refuse(f"the member is damaged ({error})", ascii(info.filename))


def is_path(name):
    """Whether a member's name could lead out of the folder that it is unpacked to."""
    return bool(re.search(r"^/|\\|\0|^[A-Za-z]:|(^|/)\.\.?(/|$)", name))


def _check_end(file, size, refuse):
    """Refuse an archive without its end, with bytes behind it, or with a directory too long to be read."""
    file.seek(max(0, size - 42))
    tail = file.read(42)
    locator, end = tail[:-22], tail[-22:]
    if len(end) < 22 or not end.startswith(b"PK\x05\x06") or end[20:] != b"\0\0":
        refuse("the zip archive is truncated or bytes follow its end")
    count, directory = struct.unpack("<10xHI6x", end)
    if locator.startswith(b"PK\x06\x07"):  # zip64: the true numbers stand elsewhere
        file.seek(min(struct.unpack("<8xQ4x", locator)[0], size))
        record = file.read(56)
        if len(record) < 56 or not record.startswith(b"PK\x06\x06"):
            refuse("the zip archive's directory is damaged")
        count, directory = struct.unpack("<32xQQ8x", record)
    if count > MAX_MEMBERS or directory > 256 * MAX_MEMBERS:
        refuse(f"the zip archive has {count} members in {directory} bytes of directory, too many")
