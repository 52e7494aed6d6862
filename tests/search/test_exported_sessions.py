import os
import subprocess
import sys

PROGRAM = """
import onnx
from search.deploy.export import open_session
from shared.graphs import build_network
from shared.spaces import make_space
space = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
open_session(onnx.load_from_string(build_network(space, space.fastest())), threads=1)
"""


def test_checking_an_exported_file_keeps_and_reports_nothing_for_the_maker_of_onnxruntime(tmp_path):
    # Without the variables of a CI, in which ONNX Runtime is silent by itself.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
