"""Which frames a video file shows, and where a decoder may start to reach each of them.

Frame i is FFmpeg's i-th frame in presentation order: what `ffmpeg -i FILE -fps_mode passthrough` gives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from vqathinker.clips.errors import ClipError, first_line

ONE_FRAME_A_PACKET = {
    *("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mpeg4"),
    *("mjpeg", "prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "qtrle"),
}
"""Codecs whose progressive frames are one packet each in `EXACT_CONTAINERS`. VP8 is none: it has packets without a
frame."""
EXACT_CONTAINERS = {"mov", "matroska", "mpegts", "yuv4mpegpipe"}
"""Containers (FFmpeg's first name) that keep each frame's presentation time; AVI, ASF and program streams do not."""
CHECKED = 4
"""Frames that are decoded at the beginning to see whether they are those that the packets tell."""
NO_TIME = np.iinfo(np.int64).min
SHORT_SHARE, SHORT_SECONDS = 0.95, 1.0
"""A file is truncated if it ends before this share of what it states, and lacks more than this many seconds."""


@dataclass(frozen=True)
class Packets:
    """What the container says of a stream's packets, in decoding order: arrays of one entry each.

    Times are in units of the stream's time base, `NO_TIME` where there is none.
    """

    pts: np.ndarray
    dts: np.ndarray
    duration: np.ndarray
    key: np.ndarray
    hidden: np.ndarray  # decoded but not shown: an edit list
    damaged: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """(M, 2) start and end of each frame that is shown, by start."""
        known = (self.pts != NO_TIME) & ~self.hidden
        times = np.stack([self.pts, self.pts + self.duration], axis=1)[known]
        return times[np.argsort(times[:, 0])]


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one video stream.

    Attributes:
        num_frames: N >= 1.
        pts: (N,) int64 presentation times, ascending; `None` where the stream has none that tell its frames apart.
        starts: Number of a frame whose packet is a key packet -> time to seek to in order to find that packet.
    """

    num_frames: int
    pts: np.ndarray | None
    starts: dict[int, int]


def open_stream(path: str) -> tuple[InputContainer, av.VideoStream]:
    """An open container and the video stream that FFmpeg calls best; cover pictures do not count.

    Raises:
        ClipError: If there is none.
    """
    try:
        container = av.open(os.path.abspath(path))  # else "a:b.mp4" is a protocol
    except (av.FFmpegError, UnicodeError) as error:
        raise ClipError(path, f"no readable video ({first_line(error)})") from error
    streams = video_streams(container)
    if not streams:
        container.close()
        raise ClipError(path, "it has no video stream")
    stream = max(streams, key=_preference)
    # One thread for each clip: several clips are read at a time.
    stream.thread_type = "NONE"
    return container, stream


def video_streams(container: InputContainer) -> list[av.VideoStream]:
    """The video streams of a container, without cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def time_base(stream: av.VideoStream) -> Fraction:
    """Seconds in one unit of its times, which a video stream always has."""
    return cast(Fraction, stream.time_base)


def _preference(stream: av.VideoStream) -> int:
    """What `ffmpeg` chooses its video stream by: size, and whether it is marked as the default."""
    codec = stream.codec_context
    return codec.width * codec.height + 5_000_000 * bool(stream.disposition & Disposition.default)


def read_index(path: str, container: InputContainer, stream: av.VideoStream) -> tuple[FrameIndex, av.VideoFrame]:
    """The index of a stream, and its first frame.

    The packets are listed without decoding them. Where they do not tell the frames for certain, every frame is decoded
    once to count them.

    Raises:
        ClipError: If nothing can be decoded, or the file is truncated.
    """
    packets, first = _list_packets(path, container, stream)
    if not first:
        raise ClipError(path, "no frame can be decoded")
    check_length(path, container, stream, packets)
    pts = np.sort(packets.pts[~packets.hidden])
    seen = [frame.pts for frame in first]
    if not _told_by_packets(container, stream, packets) or pts[: len(seen)].tolist() != seen:
        again, same = open_stream(path)
        with again:
            shown = [frame.pts for _, frame in decode_all(path, again, same)]
        times = [time for time in shown if time is not None]
        if len(times) < len(shown) or any(later <= earlier for earlier, later in pairwise(times)):
            return FrameIndex(len(shown), None, {}), first[0]
        pts = np.array(times, dtype=np.int64)
    return FrameIndex(len(pts), pts, _starts(packets, pts)), first[0]


def decode_all(path: str, container: InputContainer, stream: av.VideoStream) -> Iterator[tuple[int, av.VideoFrame]]:
    """Every frame of a container that was just opened, with its number.

    Raises:
        ClipError: If a packet behind the first frame is damaged.
    """
    number = 0
    try:
        for packet in container.demux(stream):
            for frame in decode(path, packet, number):
                yield number, frame
                number += 1
    except av.FFmpegError as error:
        raise ClipError(path, f"damaged after frame {number - 1} ({first_line(error)})") from error


def decode(path: str, packet: av.Packet[av.VideoStream], number: int) -> list[av.VideoFrame]:
    """The frames that a packet completes.

    None if it cannot be decoded because an earlier one is not there, before the first frame, or because the container
    says that it is incomplete itself. FFmpeg goes on then, too.
    """
    try:
        return frames_of(packet)
    except av.FFmpegError as error:
        if number == 0 or packet.is_corrupt:
            return []
        raise ClipError(path, f"damaged after frame {number - 1} ({first_line(error)})") from error


def frames_of(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    """What a packet decodes to. An empty one repeats the frame before it (Theora), unless it ends the stream."""
    return packet.decode() if packet.size or packet.dts is None else []


def _list_packets(path: str, container: InputContainer, stream: av.VideoStream) -> tuple[Packets, list[av.VideoFrame]]:
    """All packets of a stream and its first frames; only what is before these is decoded."""
    rows: list[tuple[int, ...]] = []
    first: list[av.VideoFrame] = []
    try:
        for packet in container.demux(stream):
            pts, dts = packet.pts, packet.dts
            if packet.size or pts is not None:  # else the empty one that ends the stream
                pts, dts = NO_TIME if pts is None else pts, NO_TIME if dts is None else dts
                flags = packet.is_keyframe, packet.is_discard, packet.is_corrupt
                rows.append((pts, dts, packet.duration or 0, *flags))
            if len(first) < CHECKED:
                first += decode(path, packet, 0)[: CHECKED - len(first)]
    except av.FFmpegError as error:
        raise ClipError(path, f"damaged after packet {len(rows)} ({first_line(error)})") from error
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    return Packets(*columns[:3], *columns[3:].astype(bool)), first


def _told_by_packets(container: InputContainer, stream: av.VideoStream, packets: Packets) -> bool:
    """Whether the packets' times are those of the frames, one by one."""
    codec = stream.codec_context
    return bool(
        _name(container) in EXACT_CONTAINERS
        and codec.codec.canonical_name in ONE_FRAME_A_PACKET
        and codec.field_order <= 1  # unknown or progressive: else a packet may hold half a frame
        and NO_TIME not in packets.pts
        and len(np.unique(packets.pts)) == len(packets.pts)
        and not packets.damaged.any()
        and packets.key[0]
        and packets.pts[0] == packets.pts.min()  # else the first frames need some that are not there
        and _in_order(packets)
    )


def _in_order(packets: Packets) -> bool:
    """Whether all that comes before a key packet is shown before all that comes after: else streams were joined."""
    keys = np.flatnonzero(packets.key)[1:]
    before = np.maximum.accumulate(packets.pts)[keys - 1]
    after = np.minimum.accumulate(packets.pts[::-1])[::-1][keys]
    return bool((before < after).all())


def _starts(packets: Packets, pts: np.ndarray) -> dict[int, int]:
    keys = np.flatnonzero(packets.key & np.isin(packets.pts, pts))
    times = np.where(packets.dts[keys] == NO_TIME, packets.pts[keys], packets.dts[keys])
    return dict(zip(np.searchsorted(pts, packets.pts[keys]).tolist(), times.tolist(), strict=True))


def _name(container: InputContainer) -> str:
    return container.format.name.split(",")[0]


# ---------------------------------------------------------------- truncated files


def check_length(path: str, container: InputContainer, stream: av.VideoStream, packets: Packets) -> None:
    """Refuse a file that ends long before what it states, in the containers whose statement is known to hold.

    What counts is the video stream's own duration. Where it states none, the container's duration is compared with the
    latest end of any stream, as sound may outlast the picture. A last frame may be shown as long as the longest before.

    Raises:
        ClipError: If more than 5 % and more than one second are missing.
    """
    times, base, name = packets.shown, time_base(stream), _name(container)
    unit = float(base)
    if not len(times):
        return
    held = max(SHORT_SECONDS, np.diff(times[:, 0]).max(initial=0) * unit)
    found, stated = times[:, 1].max() * unit, None
    if name == "mov":  # the track's own length, wherever it begins
        found, stated = found - times[0, 0] * unit, float((stream.duration or 0) * base)
    elif name == "avi":  # FFmpeg fits the duration to what is there, but not the number of frames
        stated = float(stream.frames * base)
    elif name in ("matroska", "flv") and container.duration and not _is_estimated(container):
        whole = container.duration / av.time_base
        stated = min(whole, _tagged_duration(stream) or whole)
        if stated == whole and _is_short(found, stated, held):
            found = _latest_end(path)
    if stated and _is_short(found, stated, held):
        raise ClipError(path, f"truncated: it holds {max(found, 0):.1f} of {stated:.1f} s")


def _is_short(found: float, stated: float, held: float) -> bool:
    return found < SHORT_SHARE * stated and stated - found > held


def _tagged_duration(stream: av.VideoStream) -> float | None:
    """Seconds at which the stream ends, as a tag of Matroska tells; mkvmerge adds a language to its name."""
    tags = {key.upper(): value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")}
    try:
        hours, minutes, seconds = (tags.get("DURATION") or next(iter(tags.values()), "")).split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _is_estimated(container: InputContainer) -> bool:
    """Whether FFmpeg seems to have guessed the duration from the file's size and the streams' bit rates."""
    return container.bit_rate == sum(stream.codec_context.bit_rate or 0 for stream in container.streams)


def _latest_end(path: str) -> float:
    """Seconds at which the last packet of any stream ends."""
    with av.open(os.path.abspath(path)) as container:
        ends = [float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux() if p.pts is not None]
        return max(ends, default=0.0)
