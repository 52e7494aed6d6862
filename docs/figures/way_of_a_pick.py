"""docs/images/way_of_a_pick.svg: the files that `search pick` passes from the command line to its answer.

Make it anew: python docs/figures/way_of_a_pick.py
"""

from figure import save_way

STATIONS = [
    ("search/cli.py", "finds the command"),
    ("shared/command_line.py", "parses it, and makes errors exit codes"),
    ("search/commands/pick.py", "opens run and server; prints the answer"),
    ("search/process/progress.py", "says how far it is"),
    ("search/runs/run_directory.py", "settings and tables of the run, for a device"),
    ("search/config.py", "the settings, checked"),
    ("shared/wire.py", "JSON as values"),
    ("shared/runtime.py", "the runtime that the table is of"),
    ("search/family/family.py", "which network for this budget"),
    ("search/decoding/decoding.py", "what the alphas say at this budget"),
    ("search/ranking/scoring.py", "scores and ranks them"),
    ("search/latency/latency_model.py", "bounds by op prices"),
    ("shared/tables/table.py", "prices, mean, deviation, bound"),
    ("shared/spaces/space.py", "genotypes, and the ops that they are made of"),
    ("shared/spaces/nas_bench_201.py", "the space of this run"),
    ("shared/spaces/op_key.py", "names of the prices"),
]

if __name__ == "__main__":
    save_way("way_of_a_pick", "From `search pick` to the answer", STATIONS)
