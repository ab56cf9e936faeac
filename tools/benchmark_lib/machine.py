"""What the figures were measured on."""
import datetime
import json
import os
import pathlib
import platform
import subprocess

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "devtmpfs")


def first_line(*command):
    """The first line that a program prints, or nothing: a missing program must not end the benchmark."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return output.splitlines()[0].strip() if output.strip() else ""


def value_of(path, name):
    for line in pathlib.Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def mount(directory):
    """The file system that holds the directory: {"source", "fstype", "options"}."""
    output = subprocess.run(
        ["findmnt", "--json", "--output", "SOURCE,FSTYPE,OPTIONS", "--target", str(directory)], capture_output=True,
        text=True, check=True).stdout
    return json.loads(output)["filesystems"][0]


def block_device(source):
    """Name, size and the queue's settings of a block device; partitions are looked up at their disk."""
    name = pathlib.Path(source.split("[")[0]).resolve().name
    place = pathlib.Path("/sys/class/block", name).resolve()
    if not place.exists():
        return {"name": source}
    disk = place if (place / "queue").exists() else place.parent

    def read(path):
        return path.read_text().strip() if path.exists() else "unknown"

    return {
        "name": name,
        "gibibytes": round(int(read(place / "size")) * 512 / (1 << 30), 1),
        "model": read(disk / "device" / "model"),
        "rotational": read(disk / "queue" / "rotational"),
        "scheduler": read(disk / "queue" / "scheduler"),
        "writeCache": read(disk / "queue" / "write_cache"),
        "forceUnitAccess": read(disk / "queue" / "fua"),
        "logicalBlockSize": read(disk / "queue" / "logical_block_size"),
    }


def describe(directory):
    file_system = mount(directory)
    here = str(pathlib.Path(__file__).parent)
    commit = first_line("git", "-C", here, "rev-parse", "--short", "HEAD")
    changed = first_line("git", "-C", here, "status", "--porcelain")
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "processor": value_of("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memoryGibibytes": round(int(value_of("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20), 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "fileSystem": file_system,
        "blockDevice": block_device(file_system["source"]),
        "loadAverageAtStart": os.getloadavg()[0],
        "commit": commit + (" and local changes" if changed else ""),
        "versions": {
            "fio": first_line("fio", "--version"),
            "swift": first_line("swift", "--version"),
            "g++": first_line("g++", "--version"),
            "go": first_line("go", "version"),
            "python": f"Python {platform.python_version()}",
        },
    }
