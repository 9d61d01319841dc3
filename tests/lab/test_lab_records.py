"""The verifier of record streams, on which every test of a move without loss relies."""

import records


def stream(*boots, sequence=0, previous=records.NO_HASH):
    """A stream as the recorder writes it: BOOTS are (boot, number of beats, stopped)."""
    lines = []
    for boot, beats, stopped in boots:
        for kind in ["start", *["beat"] * beats, *["stop"] * stopped]:
            sequence += 1
            head = f"R {sequence} {boot} {kind} {1_700_000_000_000 + sequence * 250} {previous} ".encode()
            previous = f"{records.fnv(head):016x}"
            lines.append(head + previous.encode() + b"\n")
    return lines


def test_a_whole_stream_is_ok():
    verdict = records.verify(b"".join(stream((1, 5, True), (2, 3, False))))
    assert verdict.ok
    assert verdict.records == 11
    assert [(boot.boot, boot.first, boot.last, boot.stopped) for boot in verdict.boots] == [
        (1, 1, 7, True),
        (2, 8, 11, False),
    ]
    assert verdict.unfinished == []


def test_removed_records_are_named():
    lines = stream((1, 10, True))
    verdict = records.verify(b"".join(lines[:3] + lines[5:]))
    assert not verdict.ok
    assert verdict.gaps == [[4, 5]]
    assert verdict.faults() == ["records 4 to 5 are missing"]


def test_records_missing_at_the_beginning_are_named():
    verdict = records.verify(b"".join(stream((1, 10, True))[2:]))
    assert verdict.gaps == [[1, 2]]


def test_a_doubled_record_is_named():
    lines = stream((1, 10, True))
    verdict = records.verify(b"".join([*lines[:4], lines[3], *lines[4:]]))
    assert not verdict.ok
    assert verdict.doubles == [4]


def test_every_altered_byte_is_noticed():
    lines = stream((1, 3, True))
    for position in range(len(lines[2]) - 1):
        line = bytearray(lines[2])
        line[position] ^= 1
        assert not records.verify(b"".join([*lines[:2], bytes(line), *lines[3:]])).ok, position


def test_a_line_that_is_no_record_is_named():
    lines = stream((1, 3, True))
    verdict = records.verify(b"".join([lines[0], b"\0\0\0\n", *lines[1:]]))
    assert verdict.damaged == [2]


def test_a_torn_end_is_noticed():
    data = b"".join(stream((1, 3, True)))
    verdict = records.verify(data[:-5])
    assert verdict.torn
    assert not verdict.ok


def test_a_record_of_another_stream_is_noticed():
    """Same numbers, whole lines, other history: what a start on an outdated copy looks like."""
    ours = stream((1, 3, True))
    others = stream((2, 3, True), sequence=5, previous="0123456789abcdef")
    verdict = records.verify(b"".join(ours + others))
    assert verdict.broken_links == [6]
    assert not verdict.ok


def test_a_boot_without_its_end_is_named():
    verdict = records.verify(b"".join(stream((1, 5, False), (2, 3, True))))
    assert verdict.ok, "a container that was killed has lost nothing that it had written"
    assert verdict.unfinished == [1]


def test_an_empty_stream_is_not_ok():
    assert not records.verify(b"").ok


def test_follows_means_every_byte():
    old = b"".join(stream((1, 5, True)))
    new = b"".join(stream((1, 5, True), (2, 1, False)))
    assert records.follows(old, new)
    assert not records.follows(new, old)
    assert not records.follows(old, new[1:])


def test_the_command_tells_by_its_exit_code(tmp_path, capsys):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.write_bytes(b"".join(stream((1, 5, True))))
    damaged.write_bytes(b"".join(stream((1, 5, True))[1:]))
    assert records.main([str(whole)]) == 0
    assert records.main([str(whole), str(damaged)]) == 1
    assert "records 1 to 1 are missing" in capsys.readouterr().out
    assert records.main(["--follows", str(damaged), str(whole)]) == 1
    assert records.main(["--follows", str(whole), str(whole)]) == 0
