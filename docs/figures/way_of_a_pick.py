"""docs/images/way_of_a_pick.svg: the files that `search pick` passes from the command line to its answer.

Make it anew: python docs/figures/way_of_a_pick.py
"""

from figure import save_way

STATIONS = [
    ("search/cli.py", "finds the command"),
    ("search/commands/pick.py", "its flags, and the table that is printed"),
    ("search/commands/finished_run.py", "opens run, device and server"),
    ("search/runs/run_directory.py", "settings and tables of the run, for a device"),
    ("search/family/picking.py", "which network for this budget"),
    ("search/family/family.py", "the candidates of the search"),
    ("search/decoding/decoding.py", "what the alphas say at this budget"),
    ("search/genotypes/enumeration.py", "all networks of a small space"),
    ("search/ranking/scoring.py", "scores and ranks them"),
    ("search/family/candidates.py", "a network with its bound and rank"),
    ("search/latency/latency_model.py", "bounds by op prices"),
    ("search/device/kernel_counts.py", "which kernels the device executes"),
    ("shared/tables/table.py", "bounds by kernel prices"),
    ("shared/tables/prediction.py", "mean, deviation, bound"),
]

if __name__ == "__main__":
    save_way("way_of_a_pick", "From `search pick` to the answer", STATIONS)
