"""File systems on loop devices, and disks that can be broken. All of it is taken down again."""

import contextlib
import os
import shutil
import subprocess
import time


class Skipped(Exception):
    """The machine cannot do this."""


class Problem(Exception):
    """Something that must not be: acknowledged records are lost, a loss is told that is none, or a file system that
    worked before does not any more, so that nothing is known."""


def run(*command, check=True, must=False):
    """Runs a command. One that fails is skipped as what the machine cannot do, or, with `must`, a problem."""
    result = subprocess.run(command, capture_output=True, text=True)
    if check and result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise (Problem if must else Skipped)(f"{' '.join(command)}: {' '.join(last) or result.returncode}")
    return result


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Skipped(f"{program} is not installed")


def make_image(path, mebibytes):
    with open(path, "wb") as image:
        image.truncate(mebibytes << 20)


def make_file_system(kind, device, *options):
    need(f"mkfs.{kind}")
    fixed = ["-F", "-b", "4096", "-m", "0"] if kind == "ext4" else ["-f"]
    run(f"mkfs.{kind}", "-q", *fixed, *options, device)


@contextlib.contextmanager
def loop_device(image, direct=False):
    """A loop device on an image; `direct`: past the page cache of the file system below."""
    need("losetup")
    options = ["--direct-io=on"] if direct else []
    device = run("losetup", "--find", "--show", *options, image).stdout.strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device, check=False)


@contextlib.contextmanager
def mounted(device, folder, options=None, must=False):
    """Mounts a device; unmounts it however the body ends. `must`: it was mounted before, so it can be."""
    os.makedirs(folder, exist_ok=True)
    run("mount", *(["-o", options] if options else []), device, folder, must=must)
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
    """A disk served by nbdkit, of which the server can be killed."""

    def __init__(self, device, server):
        self.device, self.server = device, server

    def kill(self):
        """The disk is gone, and with it what its cache held."""
        self.server.kill()
        self.server.wait()


@contextlib.contextmanager
def network_disk(folder, image, filters, parameters):
    """A disk served by nbdkit with filters, as a file by nbdfuse, as a block device by a loop device."""
    need("nbdkit", "nbdfuse")
    if not os.path.exists("/dev/fuse"):
        raise Skipped("there is no /dev/fuse")
    socket, file = os.path.join(folder, "nbd.sock"), os.path.join(folder, "disk")
    for path in (socket, file):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    open(file, "w").close()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(background(
            "nbdkit", "-f", "-U", socket, *[f"--filter={name}" for name in filters], "file", image, *parameters))
        wait_for(server, lambda: os.path.exists(socket))
        fuse = stack.enter_context(background("nbdfuse", file, "--unix", socket))
        stack.callback(run, "umount", "--lazy", file, check=False)
        wait_for(fuse, lambda: os.path.getsize(file) > 0)
        yield NetworkDisk(stack.enter_context(loop_device(file, direct=True)), server)


@contextlib.contextmanager
def background(*command):
    """A program that runs as long as the body does."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process, condition):
    for _ in range(200):
        if condition():
            return
        if process.poll() is not None:
            raise Skipped(f"{process.args[0]} ended by itself")
        time.sleep(0.05)
    raise Skipped(f"{process.args[0]} does not come up")
