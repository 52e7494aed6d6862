"""Published tables: read or refused whole, with line and reason, never taken for measured."""

import json
import os
import random
from pathlib import Path

import pytest

from lut_server.cli import main
from lut_server.store.sql import open_store
from lut_server.transfer.additive_fit import Split
from lut_server.transfer.importing import ImportRequest, read_tables
from shared.errors import InvalidValue, LutnasError, MissingPrice
from shared.jobs import NewJob, Promise
from shared.spaces import make_space
from shared.spaces.op_key import parse_op_key
from shared.tables.table import read_table
from shared.wire import canonical_json, to_wire

DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SPACE = make_space("nas-bench-201")
PRICES = {"skip_connect": 0.1, "nor_conv_1x1": 0.7, "nor_conv_3x3": 3.0, "avg_pool_3x3": 0.5, "none": 0.0}


def real(path):
    if not (DATA / path).is_file():
        pytest.skip(f"{DATA / path} is not there (LUTNAS_DATA names the folder)")
    return DATA / path


def read(content, name="times.csv", **request):
    return read_tables(content if isinstance(content, bytes) else content.encode(), name, ImportRequest(**request))


def latency_ms(genotype, base_ms=2.0):
    return base_ms + sum(PRICES[key.primitive] * n for key, n in SPACE.op_counts(genotype).items()) / 15


def architectures(count, seed=0):
    rng = random.Random(seed)
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(count)))


def csv_of(genotypes, value=latency_ms, header="architecture,pi"):
    return "\n".join([header, *(f"{SPACE.format(genotype)},{value(genotype)!r}" for genotype in genotypes)]) + "\n"


def test_additive_latencies_give_their_prices_back_and_the_table_states_its_split():
    (table,) = read(csv_of(architectures(300)), split=Split(100, 150))
    for genotype in architectures(50, seed=1):
        assert table.predict(genotype).mean_ms == pytest.approx(latency_ms(genotype), rel=1e-3)
    assert (table.source.fitted_networks, table.source.held_out_networks, table.held_out.networks) == (100, 150, 150)
    roles = [network.role for network in table.networks]
    assert (roles.count("calibration"), roles.count("held_out")) == (100, 150)
    assert not {SPACE.canonical(SPACE.parse(o.genotype)) for o in table.networks if o.role == "held_out"} & {
        SPACE.canonical(SPACE.parse(network.genotype)) for network in table.networks if network.role == "calibration"
    }
    assert read_table(json.loads(canonical_json(table))).hash == table.hash


def test_empty_slot_that_took_longer_than_a_skip_makes_skips_pay_back():
    def with_empty_slots_ms(genotype):
        return latency_ms(genotype) + 0.4 * (6 - len(SPACE.live_slots(genotype)))

    (table,) = read(csv_of(architectures(300), with_empty_slots_ms), split=Split(100, 150))
    for genotype in architectures(50, seed=1):
        assert table.predict(genotype).mean_ms == pytest.approx(with_empty_slots_ms(genotype), rel=1e-3)
    skips = sum(table.price_ms(key) for key in SPACE.slot_ops(0, "skip_connect"))
    assert skips == pytest.approx(PRICES["skip_connect"] - 0.4, rel=0.02)
    assert read_table(json.loads(canonical_json(table))).hash == table.hash


def test_ops_whose_output_goes_nowhere_cost_nothing_even_where_the_device_was_charged_for_them():
    def charged(genotype):
        dead = SPACE.canonical(genotype) != genotype
        return latency_ms(genotype) * (3 if dead else 1)

    genotypes = architectures(300)
    with_canonical = dict.fromkeys([*genotypes, *(SPACE.canonical(genotype) for genotype in genotypes)])
    (table,) = read(csv_of(with_canonical, charged))
    assert table.held_out.mape_percent < 0.1


def test_imported_table_cannot_be_taken_for_a_measured_one():
    (table,) = read(csv_of(architectures(60)))
    assert (table.runtime.engine, table.canary, table.canary_nominal_ms) == ("imported", "none", 1.0)
    assert (table.agent_version, table.runs) == ("import-3", ())
    assert str(table.source) == "times.csv (per-architecture, pi)"


def test_whole_milliseconds_and_few_distinct_values_are_said():
    (table,) = read(csv_of(architectures(60), lambda architecture: float(round(latency_ms(architecture)) + 1)))
    assert any("whole ms" in note for note in table.source.notes)


def test_indices_mean_the_architectures_of_the_named_file():
    genotypes = architectures(60)
    names = tuple(SPACE.format(genotype) for genotype in genotypes)
    rows = "\n".join(f"{index},{latency_ms(genotype)!r}" for index, genotype in enumerate(genotypes))
    (by_index,) = read(f"index,pi\n{rows}\n", indexed=names)
    (by_name,) = read(csv_of(genotypes))
    assert by_index.prices == by_name.prices
    with pytest.raises(InvalidValue, match=r"line 2: names an architecture by its index 0: give --index-from"):
        read(f"index,pi\n{rows}\n")
    with pytest.raises(InvalidValue, match=r"line 62: index 60 is beyond the 60"):
        read(f"index,pi\n{rows}\n60,1.0\n", indexed=names)


GOOD = csv_of(architectures(20))
FIRST = SPACE.format(architectures(20)[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD + f"{FIRST},9.5\n", "line 22: .* takes 9.5 ms here and .* ms in times.csv, line 2"),
        (GOOD + "|nor_conv_9x9~0|,1.0\n", "line 22: unknown architecture"),
        (GOOD + f"{FIRST}\n", "line 22: has 1 cells, the header names 2 columns"),
        (GOOD + f"{FIRST},\n", "line 22, column pi: the time is missing"),
        (GOOD + f"{FIRST},fast\n", "line 22, column pi: 'fast' is not a number"),
        (GOOD + f"{FIRST},nan\n", "line 22, column pi: nan is not a time"),
        (GOOD + f"{FIRST},-1\n", "line 22, column pi: -1 is not a time"),
        (GOOD + f'"{FIRST},1\n', "line 22"),
        (csv_of(architectures(20), lambda architecture: 4.0), "4 ms for all 20 architectures: nothing to fit"),
        (csv_of(architectures(5)), "5 distinct connected architectures are too few"),
        (csv_of([g for g in architectures(300) if "avg_pool_3x3" not in g.choices]), "has avg_pool_3x3.*no price"),
        (GOOD.replace("architecture", "network"), "line 1: has neither architectures"),
        (GOOD.replace(",pi", ",pi,pi"), "line 1: names the column 'pi' twice"),
        ("architecture\n|x|\n", "line 1: has no column of latencies"),
        (",".join(f"c{n}" for n in range(50_000)), "line 1: names 50000 columns; at most 1000 are read"),
        ("", "line 1: names no columns"),
        (GOOD.encode() + b"\xff\xfe\n", "line 22: is no UTF-8 text"),
    ],
)
def test_bad_architecture_file_is_refused_with_line_and_reason(content, words):
    with pytest.raises(InvalidValue, match=words):
        read(content)


def with_columns(genotypes, **columns):
    rows = [
        ",".join([SPACE.format(genotype), *(repr(value(genotype)) for value in columns.values())])
        for genotype in genotypes
    ]
    return "\n".join([",".join(["architecture", *columns]), *rows]) + "\n"


def drawn(genotype):
    return random.Random(SPACE.format(genotype)).uniform(50, 95)


def test_columns_that_are_no_latencies_by_their_names_are_left_out_and_said():
    names = ("pi_latency", "pi_energy", "accuracy", "testAccuracy", "flops", "params", "Params(M)", "top1", "id",
             "pi_std", "pi_mJ", "images_per_second", "img/s", "pi_fps", "testAcc")  # fmt: skip
    content = with_columns(architectures(60), **dict.fromkeys(names, latency_ms))
    said = []
    tables = read_tables(content.encode(), "t.csv", ImportRequest(), said.append)
    assert [table.device for table in tables] == ["pi_latency"]
    assert said == [f"left out, no latencies by their names: {', '.join(names[1:])}"]
    assert [table.device for table in read(content, device="pi")] == ["pi"]
    for request in ({"device": "pi_energy"}, {"device": "pi", "column": "accuracy"}):
        with pytest.raises(InvalidValue, match=r"is no latency by its name; --unit ms takes it"):
            read(content, **request)
    assert read(content, device="pi", column="accuracy", unit="ms")[0].device == "pi"
    with pytest.raises(
        InvalidValue, match=r"no column of latencies .*\(accuracy, flops: no latencies by their names\)"
    ):
        read(with_columns(architectures(60), accuracy=latency_ms, flops=latency_ms))


def test_column_that_the_ops_do_not_explain_is_refused_unless_insisted_on():
    content = with_columns(architectures(300), pi=latency_ms, quality=drawn)
    with pytest.raises(InvalidValue, match=r"column quality: its ops do not explain it \(Kendall tau -?0\.\d+ on"):
        read(content)
    assert read(content, device="pi")[0].held_out.kendall_tau > 0.9
    assert read(content, device="x", column="quality", unit="ms")[0].device == "x"


@pytest.mark.parametrize(
    ("column", "factor"),
    [("pi", 1), ("pi_ms", 1), ("pi_us", 1e3), ("latency (µs)", 1e3), ("pi [us]", 1e3), ("pi_s", 1e-3), ("pi_sec", 1e-3),
     ("latencyUs", 1e3), ("latency_mS", 1), ("microsec", 1e3), ("pi [second]", 1e-3), ("iphone_6s", 1),
     ("latency_ns", 1e6), ("usb_stick", 1), ("pixels", 1), ("galaxy_s10", 1),
     ("ms/sample", 1), ("latency us/step", 1e3)],
)  # fmt: skip
def test_unit_in_the_name_of_a_column_is_obeyed(column, factor):
    def value(genotype):
        return factor * latency_ms(genotype)

    content = csv_of(architectures(60), value, header=f"architecture,{column}")
    (table,) = read(content, device="pi")
    (wanted,) = read(csv_of(architectures(60)))
    assert [price.price_ms for price in table.prices] == pytest.approx([price.price_ms for price in wanted.prices])
    assert any("published in" in note for note in table.source.notes) == (factor != 1)


def test_unit_in_a_name_does_not_go_before_what_a_network_takes():
    with pytest.raises(InvalidValue, match=r"column pi_s: its median would be .* ms, .*: say --unit"):
        read(csv_of(architectures(60), header="architecture,pi_s"))


def test_rate_is_no_latency_whatever_its_name():
    content = with_columns(architectures(300), pi=lambda genotype: 1e4 / latency_ms(genotype))
    with pytest.raises(InvalidValue, match=r"column pi: more ops would take less time: is it a rate\?"):
        read(content)


def test_column_whose_name_is_no_devices_says_how_to_name_it():
    with pytest.raises(InvalidValue, match=r"'pi \(ms\)' is not a name of .*--device NAME --column 'pi \(ms\)'"):
        read(csv_of(architectures(60), header="architecture,pi (ms)"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "cp1252"])
def test_text_of_another_encoding_says_how_to_save_it(encoding):
    content = csv_of(architectures(60), header="architecture,pi (µs)")
    with pytest.raises(InvalidValue, match=r"is no .*text; save it as CSV in UTF-8"):
        read_tables(content.encode(encoding), "t.csv", ImportRequest(device="pi"))


@pytest.mark.parametrize(("unit", "factor"), [("us", 1e3), ("s", 1e-3), ("ns", 1e6)])
def test_latencies_that_no_network_takes_ask_for_their_unit(unit, factor):
    content = csv_of(architectures(60), lambda genotype: factor * latency_ms(genotype))
    asks = {"ns": "is not a time in ms .*; --unit names"}.get(unit, "its median would be .* ms, .*: say --unit ns, us")
    with pytest.raises(InvalidValue, match=rf"column pi: .*{asks}"):
        read(content)
    (table,) = read(content, unit=unit)
    assert table.held_out.mape_percent < 0.1
    assert table.predict(SPACE.fastest()).mean_ms == pytest.approx(latency_ms(SPACE.fastest()), rel=0.01)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", "\t").replace(".", ",").encode("utf-16"),
        lambda text: "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate(text.splitlines())),
        lambda text: "\n".join(f"{i - 1 if i else 'Unnamed: 0'},{line}" for i, line in enumerate(text.splitlines())),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    ],
    ids=["Excel in German", "tabs", "Excel's Unicode text", "pandas", "pandas again", "Windows"],
)
def test_table_is_the_same_however_its_cells_are_separated(write):
    content = csv_of(architectures(60))
    (wanted,), (table,) = read(content), read(write(content))
    assert table.prices == wanted.prices


def test_column_that_the_file_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(InvalidValue, match=r"knows no device 'pixel' \(it has: pi\)"):
        read(GOOD, device="x", column="pixel")


def test_repeated_rows_with_the_same_latency_count_once():
    genotypes = architectures(60)
    (table,) = read(csv_of([*genotypes, *genotypes[:7]]))
    assert any("7 repeated rows" in note for note in table.source.notes)


PROXYLESS = """expanded_conv-input:14x14x80-output:14x14x80-expand:6-kernel:3-stride:1-idskip:1:
  {mean: 2.0, var: 0.04, count: 100}
expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:5-stride:1-idskip:0: {mean: 3.0, count: 1}
Logits-input:7x7x1280-output:1000: {mean: 0.25}
"""


def test_expand_is_the_ratio_in_one_project_and_mid_channels_in_the_other():
    (proxyless,) = read(PROXYLESS, "t.yaml", device="phone")
    assert [row.op_key for row in proxyless.prices] == [
        "dw_k5/32x112x112/16x112x112/s1",
        "k3_e6/80x14x14/80x14x14/s1",
        "logits/1280x7x7/1000x1x1/s1",
    ]
    assert proxyless.prices[1].sd_ms == pytest.approx(0.2 / 10)
    ofa = "expanded_conv-input:7x7x192-output:7x7x192-expand:576-kernel:7-stride:1-idskip:1-se:1-hs:1: {mean: 1.0}\n"
    (table,) = read(ofa, "t.yaml", device="phone")
    assert (table.prices[0].op_key, table.source.format) == ("k7_e3_se_hs/192x7x7/192x7x7/s1", "once-for-all")
    with pytest.raises(InvalidValue, match="line 1: expand:576 is no ratio"):
        read(ofa, "t.yaml", device="phone", kind="proxylessnas")


def test_json_is_read_like_yaml():
    ops = {
        "AvgPool2D-input:5x5x960-output:1x1x960": {"count": 100, "mean": 1e-05, "std": 0.01},
        "expanded_conv-input:10x10x80-output:10x10x80-expand:240-kernel:3-stride:1-idskip:1-se:1-hs:1": {"mean": 1.5},
    }
    (table,) = read(json.dumps(ops, indent="\t"), "160_lookup_table.json", device="phone")
    assert table.source.format == "once-for-all"
    assert {row.op_key: row.price_ms for row in table.prices} == {
        "avgpool2d/960x5x5/960x1x1/s5": 1e-05,
        "k3_e3_se_hs/80x10x10/80x10x10/s1": 1.5,
    }
    (in_us,) = read(json.dumps(ops), "t.json", device="phone", unit="us")
    assert in_us.prices[1].price_ms == pytest.approx(1.5e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "t.json: is no object"),
        ("{", "t.json: is not JSON"),
        ("[" * 9999, "t.json: is not JSON: nested too deeply"),
        ('{"Conv-input:1x1x3-output:1x1x3": {"mean": "1"}}', "Conv-input:1x1x3-output:1x1x3: has no mean"),
        ('{"Conv-input:1x1x3-output:1x1x3": {"mean": NaN}}', "mean: nan is not a time"),
        ('{"Conv-input:1x1x3-output:1x1x3": {"mean": 1}, "Conv-input:1x1x3-output:1x1x3": {"mean": 2}}', "again"),
    ],
)
def test_json_that_is_no_table_is_refused_with_its_place(content, words):
    with pytest.raises(InvalidValue, match=words):
        read(content, "t.json", device="phone")


def test_op_list_prices_what_consists_of_its_ops_and_names_what_it_lacks():
    (table,) = read(PROXYLESS, "t.yaml", device="phone")
    key = parse_op_key("k3_e6/80x14x14/80x14x14/s1")
    assert table.predict_counts({key: 2}).mean_ms == pytest.approx(4.0)
    with pytest.raises(MissingPrice, match="no price for k9_e6"):
        table.predict_counts({parse_op_key("k9_e6/80x14x14/80x14x14/s1"): 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Conv: [1, 2\n", "line 2: is not YAML"),
        ("- 1\n- 2\n", "line 1: is no mapping"),
        (PROXYLESS + "Conv: {mean: 1}\n", "line 5: 'Conv' is not of the form"),
        (PROXYLESS + "Conv-input:1x1x3-output:1x1x3: {std: 1}\n", "line 5: the op has no mean"),
        (PROXYLESS + "Conv-input:1x1x3-output:1x1x3: {mean: fast}\n", "line 5: mean is not a number"),
        (PROXYLESS + "Conv-input:1x1x3-output:1x1x3: {mean: -1}\n", "line 5, mean: -1 is not a time"),
        (PROXYLESS + "Conv-input:1x1x3-output:1x1x3: {mean: .nan}\n", "line 5, mean: '.nan' is not a number"),
        (PROXYLESS + "Conv-input:1x1x3-output:1x1x3: 4\n", "line 5: .* has no mean"),
        (PROXYLESS + PROXYLESS.splitlines()[-1], "line 5: Logits.* is the op of t.yaml, line 4 again"),
        (PROXYLESS + "Conv-input:0x1x3-output:1x1x3: {mean: 1}\n", "side below 1"),
        ("!!python/object/apply:os.system ['touch /tmp/owned']\n", "line 1: is no mapping"),
        ("[" * 5000, "is not YAML: nested too deeply"),
        (b"\xff\xfe\x00", "is not YAML"),
        ("", "line 1: is no mapping"),
    ],
)
def test_yaml_that_is_no_table_is_refused_with_line_and_reason(content, words):
    with pytest.raises(InvalidValue, match=words):
        read(content, "t.yaml", device="phone")


def layers(**changes):
    rows = {("-1", "base_all_skip"): "8.0"}
    for index, slot in enumerate(make_space("fbnet").slots):
        rows |= {(str(index), primitive): "0" if primitive == "skip" else "1.5" for primitive in slot.primitives}
    rows |= {tuple(key.split("/")): value for key, value in changes.items()}
    lines = [f"pi,{layer},{op},{ms}" for (layer, op), ms in rows.items() if ms is not None]
    return "\n".join(["device,layer,op,latency_ms_rel_to_skip", *lines]) + "\n"


def test_layers_become_op_keys_of_the_fbnet_space_and_the_skips_stand_in_the_base():
    (table,) = read(layers())
    space = table.parsed_space
    assert table.predict(space.fastest()).mean_ms == pytest.approx(8.0)
    every = space.parse(",".join(["k3_e6"] * len(space.slots)))
    assert table.predict(every).mean_ms == pytest.approx(8.0 + 1.5 * len(space.slots))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (layers(**{"3/k5_e6": None}), "has no row for layer 3, op k5_e6"),
        (layers(**{"99/k5_e6": "1"}), "layer 99 is none of the 22 layers"),
        (layers(**{"3/k9_e6": "1"}), "op 'k9_e6' is none of"),
        (layers(**{"-1/base_all_skip": None}), "needs one row of layer -1"),
        (layers() + "pi,0,k3_e1,1\n", "line 201: layer 0, op k3_e1, of pi was there before"),
        (layers() + "pi,first,k3_e1,1\n", "line 201: layer 'first' is not a whole number"),
    ],
)
def test_layer_file_with_a_hole_or_a_stranger_is_refused(content, words):
    with pytest.raises(InvalidValue, match=words):
        read(content)


LOOKUP_OPS = "ir_k3_e1 ir_k3_s2 ir_k3_e3 ir_k3_e6 ir_k5_e1 ir_k5_s2 ir_k5_e3 ir_k5_e6 skip"


def test_lookup_table_of_fbnet_is_read_in_microseconds_and_relative_to_the_skips():
    layer = " ".join(str(100.0 * (index + 1)) for index in range(8)) + " 50.0"
    content = "\n".join([LOOKUP_OPS, *[layer] * 22])
    (table,) = read(content, "lookup_table.txt", device="cpu")
    space = table.parsed_space
    assert str(space).startswith("fbnet/r224")
    assert table.base_ms == pytest.approx(22 * 0.05)
    every = space.parse(",".join(["k3_e1_g2"] * 22))
    assert table.predict(every).mean_ms == pytest.approx(22 * 0.2)
    with pytest.raises(InvalidValue, match="give --device NAME"):
        read(content, "lookup_table.txt")
    with pytest.raises(InvalidValue, match="line 4: has 2 times"):
        read(f"{LOOKUP_OPS}\n{layer}\n{layer}\n1 2", "lookup_table.txt", device="cpu")
    with pytest.raises(InvalidValue, match="has no row for layer 21"):
        read("\n".join([LOOKUP_OPS, *[layer] * 21]), "lookup_table.txt", device="cpu")


def test_device_with_imported_tables_alone_is_not_to_be_measured(api):
    (table,) = read(GOOD)
    api.store.tables.put_imported(table)
    answer = api.get("/v1/devices/pi/table", params={"space": "darts"})
    assert answer.status_code == 404
    assert "imported, not to be measured here" in answer.text
    assert "profiler-agent" not in answer.text


def test_measured_table_goes_before_an_imported_one_and_a_known_device_keeps_its_probe(store, lab):
    from lut_server.calibration.table_builder import build_table

    store.devices.register("pi", {"cpu": "a kettle"})
    store.runs.put(lab.run())
    measured = store.runs.finish("run-1", build_table(lab.run(), lab.plan, lab.measure_all(), 2.0))
    (imported,) = read(GOOD)
    assert store.tables.put_imported(imported)
    assert not store.tables.put_imported(imported)
    assert store.tables.find("pi").hash == measured.hash
    assert store.tables.find("pi", runtime=str(imported.runtime)).hash == imported.hash
    assert store.devices.get("pi").probe == {"cpu": "a kettle"}


def test_promise_of_an_imported_table_is_refused_because_no_agent_serves_the_device(api, lab):
    (table,) = read(GOOD)
    api.store.tables.put_imported(table)
    genotype = SPACE.format(SPACE.fastest())
    promise = Promise(table.hash, genotype, 3.0, 4.0, 5.0)
    job = NewJob("pi", "verify", table.runtime, table.canary, str(SPACE), f"network:{SPACE}:{genotype}", promise)
    answer = api.post("/v1/jobs", to_wire(job))
    assert answer.status_code == 422
    assert "imported from times.csv (per-architecture, pi): no agent serves that device" in answer.text


def test_op_list_predicts_over_http_what_a_network_of_its_ops_costs(api):
    parameters = {"name": "t.yaml", "device": "phone"}
    answer = api.post("/v1/tables", content=PROXYLESS.encode(), params=parameters)
    assert answer.status_code == 200, answer.text
    (table,) = answer.json()["imported"]
    assert table["space"] == "ops/proxylessnas/r112"
    again = api.post("/v1/tables", content=PROXYLESS.encode(), params=parameters).json()
    assert (again["imported"], again["known"]) == ([], [table])
    key = "k3_e6/80x14x14/80x14x14/s1"
    predicted = api.post("/v1/devices/phone/predict", {"ops": {key: 3, "logits/1280x7x7/1000x1x1/s1": 1}}).json()
    assert (predicted["mean_ms"], predicted["by"]) == (pytest.approx(6.25), "ops")
    missing = api.post("/v1/devices/phone/predict", {"ops": {"k3_e6/8x14x14/8x14x14/s1": 1}})
    assert (missing.status_code, missing.json()["error"]["detail"]) == (422, {"ops": ["k3_e6/8x14x14/8x14x14/s1"]})
    assert api.post("/v1/devices/phone/predict", {"ops": {key: 0}}).status_code == 422
    assert api.post("/v1/devices/phone/predict", {"genotype": "|x|"}).status_code == 422


def test_bad_file_over_http_is_refused_with_line_and_reason_and_stores_nothing(api):
    for parameters, words in (
        ({"name": "t.csv", "device": "phone"}, "t.csv, line 1"),
        ({"name": "t.yaml", "device": "../phone"}, "device"),
        ({"name": "t.yaml"}, "device"),
        ({"name": "t.yaml", "device": "phone", "kind": "stones"}, "kind: 'stones' is none of"),
        ({"name": "t.yaml", "device": "phone", "batch": "0"}, "runtime.batch"),
    ):
        answer = api.post("/v1/tables", content=PROXYLESS.encode(), params=parameters)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
        assert words in answer.text
    assert api.get("/v1/devices").json() == {"devices": []}


def test_search_says_so_before_it_asks_the_server():
    from search.device.verification import request_verification

    (table,) = read(GOOD)
    with pytest.raises(LutnasError, match="no agent serves that device"):
        request_verification(None, table, b"", Promise(table.hash, FIRST, 3.0, 4.0, 5.0))


def test_command_imports_every_column_and_says_how_wrong_the_fit_is(tmp_path, capsys):
    file, url = tmp_path / "times.csv", f"sqlite:///{tmp_path}/t.db"
    file.write_text(GOOD)
    for said in ("pi: imported table", "pi: was there already, table"):
        assert main(["import", str(file), "--database-url", url], environment={}) == 0
        assert capsys.readouterr().out.startswith(said)
    assert main(["import", str(tmp_path / "none.csv"), "--database-url", url], environment={}) == 1
    file.write_text(GOOD + "broken\n")
    assert main(["import", str(file), "--device", "other", "--database-url", url], environment={}) == 2
    assert "line 22" in capsys.readouterr().err
    store = open_store(url)
    assert [device.name for device in store.devices.list()] == ["pi"]
    store.close()


def test_command_reads_json_by_its_content_and_says_what_it_leaves_out(tmp_path, capsys):
    file, url = tmp_path / "table.json", f"sqlite:///{tmp_path}/t.db"
    file.write_text('{"AvgPool2D-input:5x5x960-output:1x1x960": {"count": 100, "mean": 0.1, "std": 0.01}}')
    assert main(["import", str(file), "--device", "phone", "--database-url", url], environment={}) == 0
    assert capsys.readouterr().out.startswith("phone: imported table")
    everything = tmp_path / "all.json"
    assert main(["export", "--all", str(everything), "--database-url", url], environment={}) == 0
    assert main(["import", str(everything), "--database-url", url], environment={}) == 0
    assert "table: 0 imported, 1 known" in capsys.readouterr().out
    file = tmp_path / "times.csv"
    file.write_text(with_columns(architectures(60), pi_us=lambda genotype: 1e3 * latency_ms(genotype), flops=drawn))
    assert main(["import", str(file), "--database-url", url], environment={}) == 0
    printed = capsys.readouterr()
    assert printed.err == "left out, no latencies by their names: flops\n"
    assert printed.out.startswith("pi_us: imported table")


def test_real_latencies_of_a_raspberry_pi_are_fitted_with_the_known_error():
    path = real("nas_bench_201/latency_ms.csv")
    (table,) = read(path.read_bytes(), path.name, device="raspi4")
    assert table.held_out.networks == 1000
    assert 5 < table.held_out.mape_percent < 9
    assert table.held_out.kendall_tau > 0.85
    assert table.held_out.bound_coverage > 92


@pytest.mark.parametrize(
    ("path", "ops"),
    [
        *((f"ofa_note10/note10_{side}_lookup_table.yaml", 96) for side in (160, 176, 192, 208, 224)),
        ("proxyless_mobile/mobile_trim.yaml", 72),
    ],
)
def test_real_op_tables_are_read_whole(path, ops):
    (table,) = read(real(path).read_bytes(), Path(path).name, device="phone")
    assert len(table.prices) == ops


def test_real_fbnet_layers_are_read_for_all_four_devices():
    tables = read(real("fbnet/per_op_relative_to_skip_ms.csv").read_bytes(), "layers.csv")
    assert [table.device for table in tables] == ["raspi4", "pixel3", "eyeriss", "fpga"]
