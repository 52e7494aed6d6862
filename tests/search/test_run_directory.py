import json
import resource
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from search.cli import main
from search.config import SETTINGS, Config
from search.process.progress import Progress, SilentProgress
from search.runs.run_directory import Checkpoint, RunDirectory, new_hypernetwork
from search.training.training import Trainer
from shared.atomic_files import write_atomically
from shared.errors import CorruptFile, InvalidValue, LutnasError, OtherSchema, UnknownName, WrongUse


@pytest.fixture
def run(tmp_path, config, table, digits) -> RunDirectory:
    directory = RunDirectory.create(tmp_path / "run", replace(config, warmup_steps=1, search_steps=1), table)
    Trainer(directory, digits).train(SilentProgress())
    return directory


def test_config_and_table_are_read_back_as_written(run, table):
    again = RunDirectory.open(run.path)
    assert again.config == run.config
    assert again.tables == (table,)
    assert table.hash == again.config.table_hash


def test_supernet_and_hypernetwork_have_the_checkpoints_weights(run):
    checkpoint = run.load_checkpoint()
    supernet, hypernetwork = run.supernet(), run.hypernetwork()
    assert all(torch.equal(value, checkpoint.supernet[name]) for name, value in supernet.state_dict().items())
    assert torch.equal(hypernetwork.state_dict()["references"], checkpoint.hypernetwork["references"])
    assert not supernet.training


def test_the_first_hypernetwork_follows_the_seed_and_nothing_else(config, table):
    mlp = replace(config, hypernetwork="mlp")
    before = torch.random.get_rng_state()
    first = new_hypernetwork(mlp, [table])
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again, other = new_hypernetwork(mlp, [table]), new_hypernetwork(replace(mlp, seed=mlp.seed + 1), [table])
    assert torch.equal(first.state_dict()["hidden.weight"], again.state_dict()["hidden.weight"])
    assert not torch.equal(first.state_dict()["hidden.weight"], other.state_dict()["hidden.weight"])


def test_a_folder_holds_one_run(run, config, table):
    with pytest.raises(WrongUse, match="--resume"):
        RunDirectory.create(run.path, config, table)


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    with pytest.raises(WrongUse, match="search --device"):
        RunDirectory.open(tmp_path)


def test_a_run_without_a_checkpoint_says_so(tmp_path, config, table):
    directory = RunDirectory.create(tmp_path / "new", config, table)
    with pytest.raises(WrongUse, match="no checkpoint"):
        directory.supernet()


def test_a_table_that_was_changed_is_refused(run):
    (kept,) = (run.path / "tables").iterdir()
    content = json.loads(kept.read_bytes())
    content["base_ms"] *= 2
    kept.write_text(json.dumps(content))
    with pytest.raises(CorruptFile, match=kept.name):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 11, "device": 3}'])
def test_a_broken_config_is_named(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"config\.json"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize(("found", "words"), [(1, "schema 1"), (2, "schema 2"), (99, "schema 99"), (None, "no schema")])
def test_a_run_of_another_lutnas_is_refused(run, found, words):
    path = run.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": found}))
    with pytest.raises(OtherSchema, match=f"config.json has {words}.*, this lutnas reads schema 11: make it anew"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_one_damaged_byte_anywhere_in_a_checkpoint_is_found_or_harmless(run, where):
    good = run.load_checkpoint()
    content = bytearray(run.checkpoint_path.read_bytes())
    content[int(where * len(content))] ^= 0xFF
    run.checkpoint_path.write_bytes(content)
    try:
        loaded = run.load_checkpoint()
    except CorruptFile:
        return
    assert all(torch.equal(loaded.supernet[name], value) for name, value in good.supernet.items())


def test_a_flipped_bit_of_the_archives_directory_is_damage_or_harmless(run):
    good = run.checkpoint_path.read_bytes()
    directory = good.index(b"PK\x01\x02")
    for bit in range(8 * directory, 8 * len(good), 53):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        run.checkpoint_path.write_bytes(content)
        with suppress(CorruptFile):
            run.load_checkpoint()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_checkpoint_is_refused(run, keep):
    run.checkpoint_path.write_bytes(run.checkpoint_path.read_bytes()[:keep])
    with pytest.raises(CorruptFile, match="damaged"):
        run.load_checkpoint()


def test_a_file_of_something_else_is_no_checkpoint(run):
    torch.save({"weights": torch.zeros(3)}, run.checkpoint_path)
    with pytest.raises(CorruptFile, match="no checkpoint"):
        run.load_checkpoint()


@pytest.mark.parametrize("name", ["table_hash", "data_fingerprint", "config_hash"])
def test_a_checkpoint_of_another_table_data_set_or_config_is_refused_with_the_reason(run, name):
    content = torch.load(run.checkpoint_path, weights_only=True)
    torch.save({**content, name: "0" * 64}, run.checkpoint_path)
    with pytest.raises(CorruptFile, match=name.replace("_", " ")):
        run.load_checkpoint()


def test_other_images_than_those_of_the_search_are_refused(tmp_path, config, table):
    directory = RunDirectory.create(tmp_path / "other", replace(config, data_fingerprint="0" * 64), table)
    with pytest.raises(LutnasError, match="other images"):
        directory.load_images()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"old"


def test_without_room_for_the_new_file_the_old_one_stays_and_one_line_says_so(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(LutnasError, match=r"no space left for .*file: free some"):
            write_atomically(path, bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_checkpoints_hold_no_code(run):
    """weights_only: loading a checkpoint runs nothing that it contains."""
    assert isinstance(run.load_checkpoint(), Checkpoint)
    content = torch.load(run.checkpoint_path, weights_only=True)
    assert content["step"] == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("threads", 0),
        ("warmup_steps", -1),
        ("weight_lr", float("nan")),
        ("weight_lr", 0.0),
        ("exploration", 1.1),
        ("confidence", 1.0),
        ("search_resolution", 3),
        ("search_resolution", 12),
        ("seed", 2**32),
    ],
)
def test_a_setting_outside_its_domain_is_refused_by_name(config: Config, setting, value):
    with pytest.raises(InvalidValue, match=setting.replace("_", "-")):
        replace(config, **{setting: value})


def test_an_unknown_hypernetwork_names_the_known_ones(config: Config):
    with pytest.raises(UnknownName, match="piecewise-linear"):
        replace(config, hypernetwork="transformer")


def test_every_setting_has_a_help_text():
    assert "warmup_steps" in SETTINGS
    assert all(help_text for _, help_text in SETTINGS.values())


def test_plain_progress_writes_a_line_at_both_ends_and_every_ten_seconds():
    lines, now = [], [0.0]
    progress = Progress(lines.append, clock=lambda: now[0])
    with progress.phase("search", 30) as phase:
        for _ in range(30):
            now[0] += 1.0
            phase.advance(1, loss=0.5)
    assert lines[0] == "search: 30"
    assert lines[-1].startswith("search: 30/30  done  30 s  loss 0.5")
    assert 3 <= len(lines) <= 5


def test_a_run_that_is_older_than_some_settings_goes_on_with_their_defaults(tmp_path, config, table, digits):
    directory = RunDirectory.create(tmp_path / "old", replace(config, warmup_steps=1, search_steps=1), table)
    written = json.loads((directory.path / "config.json").read_text())
    older = {name: value for name, value in written.items() if name not in ("auxiliary_skip", "path_sampler")}
    (directory.path / "config.json").write_text(json.dumps(older))
    assert Trainer(RunDirectory.open(directory.path), digits).train(SilentProgress())
    again = RunDirectory.open(directory.path)
    assert again.load_checkpoint().step == 2
    assert again.config == directory.config


@pytest.mark.parametrize(
    "command",
    [
        ["pick", "--max-latency-ms", "1"],
        ["export", "--max-latency-ms", "1", "--out", "m.onnx"],
        ["train", "--max-latency-ms", "1"],
        ["diagnose"],
        ["report"],
        ["--resume"],
    ],
    ids=lambda words: words[0],
)
def test_a_run_of_another_lutnas_ends_every_command_in_a_line(run, capsys, command):
    path = run.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema": 2}))
    where = ["--out", str(run.path)] if command == ["--resume"] else ["--run", str(run.path)]
    assert main([*command, *where]) == 1
    assert capsys.readouterr().err == (
        f"search: {path} has schema 2, this lutnas reads schema 11: make it anew, or use the lutnas that wrote it\n"
    )
