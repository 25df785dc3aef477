"""A child with a limit of memory: what is past it is that run's own error, and the child lives on."""

import subprocess
import sys
from pathlib import Path

CHILD = """
from domain.contracts import Blob
from tests.unit.test_images import encoded
from PIL import Image
from workers.child import limit_memory
from workers.execution import _mapped
from workers.images import read_image

large, small = (encoded(Image.new("L", (side, side)), "PNG") for side in (7_000, 100))
limit_memory(int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) // 1024 + 100)
for wanted in (lambda: read_image(large), lambda: bytearray(200_000_000)):
    try:
        wanted()
    except MemoryError as error:
        print(_mapped(error).code)
print(read_image(small).size)
"""


def test_what_does_not_fit_fails_alone_and_the_child_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["out_of_memory", "out_of_memory", "(100, 100)"]), done.stderr


CONTEXT = """
import os, resource, sys
from dataclasses import replace
from pathlib import Path
from tests.support.worker_parts import worker_config
from workers.board import Board
from workers.child import BOARD_FILE, PLACES_PER_SLOT, Context

folder = Path(sys.argv[1])
config = worker_config(folder)
pools = {"debug": config.catalogue.pools["debug"].model_copy(update={"memory_limit_mib": 2_000})}
replace(config, catalogue=config.catalogue.model_copy(update={"pools": pools})).save()
Board.create(folder / BOARD_FILE, PLACES_PER_SLOT)
Context(folder)
print(resource.getrlimit(resource.RLIMIT_DATA)[0], flush=True)
os._exit(0)
"""


def test_limit_of_a_pool_is_that_of_its_child(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CONTEXT, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"{2_000 * 1_048_576}\n"), done.stderr
