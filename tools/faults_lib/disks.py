"""File systems on loop devices, and disks that can be broken. All of it is taken down again."""

import contextlib
import os
import shutil
import subprocess
import time


class Skipped(Exception):
    """The machine cannot do this."""


def run(*command, check=True):
    result = subprocess.run(command, capture_output=True, text=True)
    if check and result.returncode != 0:
        raise Skipped(f"{command[0]}: {(result.stderr or result.stdout).strip().splitlines()[-1:]}")
    return result


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Skipped(f"{program} is not installed")


def make_image(path, mebibytes):
    with open(path, "wb") as image:
        image.truncate(mebibytes << 20)


def make_file_system(kind, device):
    need(f"mkfs.{kind}")
    if kind == "ext4":
        run("mkfs.ext4", "-q", "-F", "-b", "4096", device)
    else:
        run("mkfs.xfs", "-q", "-f", device)


class LoopDevice:
    """A loop device on an image; `direct`: past the page cache of the file system below."""

    def __init__(self, image, direct=False):
        need("losetup")
        options = ["--direct-io=on"] if direct else []
        self.device = run("losetup", "--find", "--show", *options, image).stdout.strip()

    def detach(self):
        run("losetup", "--detach", self.device, check=False)


@contextlib.contextmanager
def mounted(device, folder, options=None):
    """Mounts a device; unmounts it however the body ends."""
    os.makedirs(folder, exist_ok=True)
    run("mount", *(["-o", options] if options else []), device, folder)
    try:
        yield folder
    finally:
        unmount(folder)


def unmount(folder):
    for _ in range(50):
        if run("umount", folder, check=False).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", "--lazy", folder, check=False)


class NetworkDisk:
    """A disk served by nbdkit with filters, as a file by nbdfuse, as a block device by a loop device."""

    def __init__(self, folder, image, filters, parameters):
        need("nbdkit", "nbdfuse")
        if not os.path.exists("/dev/fuse"):
            raise Skipped("there is no /dev/fuse")
        self.socket = os.path.join(folder, "nbd.sock")
        self.file = os.path.join(folder, "disk")
        for path in (self.socket, self.file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        open(self.file, "w").close()
        command = ["nbdkit", "-f", "-U", self.socket, *[f"--filter={name}" for name in filters], "file", image]
        self.server = subprocess.Popen(
            command + parameters, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for(lambda: os.path.exists(self.socket))
        self.fuse = subprocess.Popen(
            ["nbdfuse", self.file, "--unix", self.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for(lambda: os.path.getsize(self.file) > 0)
        self.loop = LoopDevice(self.file, direct=True)
        self.device = self.loop.device

    def wait_for(self, condition):
        for _ in range(100):
            if condition():
                return
            if self.server.poll() is not None:
                raise Skipped("nbdkit ended by itself")
            time.sleep(0.05)
        self.stop()
        raise Skipped("nbdkit or nbdfuse does not come up")

    def kill(self):
        """The disk is gone, and with it what its cache held."""
        self.server.kill()
        self.server.wait()

    def stop(self):
        if hasattr(self, "loop"):
            self.loop.detach()
        run("umount", "--lazy", self.file, check=False)
        for process in (getattr(self, "fuse", None), self.server):
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
