"""What every column of the result tables means, and its unit: the one place that says so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of ``points.csv``, ``seed_means.csv`` or ``bd_cbr.csv``."""

    name: str
    unit: str  # "" for names, flags and counts without a unit
    meaning: str


POINTS = (
    Column("point_id", "", "16 hex digits of the point's coordinates; equal points, equal id"),
    Column("scheme", "", "transmission scheme as in the scenario: x265, vvenc, pvsc, ..."),
    Column("variant", "", "the scheme's variant, empty if it has none"),
    Column("clip", "", "name or path of the clip"),
    Column("gop", "frames", "frames per group of pictures"),
    Column("rate", "", "the scheme's own rate index: QP of a codec, quality preset of a model"),
    Column("channel", "", "awgn, rayleigh, ..."),
    Column("snr_db", "dB", "Es/N0 per complex symbol after the power constraint, E|h|^2 = 1"),
    Column("csi_nmse_db", "dB", "normalised error of the channel estimate; empty: perfect CSI"),
    Column("coherence_length", "channel uses", "block length of the fading; empty: no fading"),
    Column("equalizer", "", "how the receiver undoes the fading: zf, lmmse, ..."),
    Column("csi_aware", "", "whether equaliser and demapper know the variance of the CSI error"),
    Column("mcs", "", "index in TS 38.214 Table 5.1.3.1-1 of a digital scheme"),
    Column("mcs_policy", "", "what the scenario asked for: an index, best or envelope"),
    Column("mcs_role", "", "given by the scenario, or chosen by the policy"),
    Column("seed", "", "seed of fading, CSI error and noise; shared by all schemes of a point"),
    Column("num_frames", "frames", "frames sent and judged"),
    Column("cbr", "uses/sample", "complex channel uses over frames x height x width x 3, unpadded"),
    Column("cbr_source", "uses/sample", "part of cbr: the source's bitstream or symbols"),
    Column("cbr_side", "uses/sample", "part of cbr: side information; 0 for separated schemes"),
    Column("psnr_db", "dB", "mean over frames of PSNR in 8-bit RGB; higher is better"),
    Column("lpips", "", "mean LPIPS v0.1 with VGG16; lower is better"),
    Column("dists", "", "mean DISTS; lower is better"),
    Column("bler", "", "block error rate of the MCS at this channel, measured apart; 0 to 1"),
    Column("num_blocks", "blocks", "transport blocks of this point"),
    Column("num_block_errors", "blocks", "of these, blocks whose CRC failed"),
    Column("frames_lost", "frames", "frames that were concealed"),
    Column(
        "status", "", "ok, outage (no frame came), untrained (no weights), or why the codec failed"
    ),
    Column("seconds", "s", "wall time of this row, without what was cached"),
    Column("decoder", "", "LDPC decoder"),
    Column("num_iter", "", "most iterations of the LDPC decoder"),
    Column("note", "", "what a reader of the row must know"),
)

#: What semantic schemes add to ``points.csv``.
SEMANTIC = (
    Column("cbr_y", "uses/sample", "part of cbr_source: symbols of P frames"),
    Column("cbr_intra", "uses/sample", "part of cbr_source: symbols of I frames"),
    Column("cbr_z", "uses/sample", "part of cbr_side: hyper-latents, motion, and their overhead"),
    Column("cbr_k", "uses/sample", "part of cbr_side: rate maps, with their coding overhead"),
    Column("side_lost", "frames", "frames whose side information did not arrive"),
)

#: What ``points.csv`` has where receivers compute otherwise than their transmitters.
MISMATCH = (
    Column("receiver_arithmetic", "", "what the receiver's networks compute in; same: as sent"),
    Column("out_of_step", "frames", "frames that the receiver's entropy decoder could not follow"),
)


def _with_interval(name: str, unit: str, meaning: str, interval: str) -> tuple[Column, ...]:
    """A mean and the two ends of its 95 % confidence interval."""
    return (
        Column(name, unit, meaning),
        Column(f"{name}_low", unit, f"lower end of its 95 % {interval} interval; empty: one seed"),
        Column(f"{name}_high", unit, "upper end of that interval"),
    )


_STUDENT, _WILSON = "Student's t", "Wilson"
#: What ``seed_means.csv`` has beside columns of points; its counts are sums over seeds.
SEED_MEANS = (
    Column("num_seeds", "", "seeds of the same status that were averaged"),
    *_with_interval("cbr", "uses/sample", "mean over seeds of cbr", _STUDENT),
    *_with_interval("psnr_db", "dB", "mean over seeds of psnr_db", _STUDENT),
    *_with_interval("lpips", "", "mean over seeds of lpips", _STUDENT),
    *_with_interval("dists", "", "mean over seeds of dists", _STUDENT),
    *_with_interval("block_error_rate", "", "of the blocks that were sent, all seeds", _WILSON),
)

BD_CBR = (
    Column("anchor", "", "scheme that BD-CBR is measured against"),
    Column("metric", "", "psnr, lpips or dists: the quality at which CBR is compared"),
    Column("bd_cbr_percent", "%", "mean CBR difference at equal quality; negative: fewer uses"),
    Column("overlap", "", "common over joint quality range of the two curves; 0 to 1"),
)

# A mean over seeds has the name of what it is the mean of; the points' own meaning goes first.
_BY_NAME = {c.name: c for c in (*SEED_MEANS, *POINTS, *SEMANTIC, *MISMATCH, *BD_CBR)}


def column(name: str) -> Column:
    """The description of a column; ``cbr_<part>`` that is not listed is a part of ``cbr``."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("cbr_"):
        return Column(name, "uses/sample", f"part of cbr: {name.removeprefix('cbr_')}")
    return Column(name, "", "a column of the scheme's own")


def columns_text() -> str:
    """All columns with unit and meaning, as aligned text."""
    lines = []
    files = (
        ("points.csv", POINTS),
        ("points.csv, where a semantic scheme was sent", SEMANTIC),
        ("points.csv, where receivers compute otherwise", MISMATCH),
        ("seed_means.csv, beside those of points; counts are sums over seeds", SEED_MEANS),
        ("bd_cbr.csv, beside those of points", BD_CBR),
    )
    for file, columns in files:
        lines.append(file)
        lines += [f"  {c.name:<21} {c.unit:<13} {c.meaning}" for c in columns]
    return "\n".join(lines)
