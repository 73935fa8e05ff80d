"""Strict parsers of subtitles, by the grammars of WebVTT (W3C) and SubRip: whatever they do not allow is an error."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_VTT_TIME = r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"
_VTT_TIMES = re.compile(rf"{_VTT_TIME}[ \t]+-->[ \t]+{_VTT_TIME}")
_SRT_TIME = r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})"
_SRT_TIMES = re.compile(rf"{_SRT_TIME} --> {_SRT_TIME}")
_VOICE = re.compile(r"<v ([^<>\n]+)>")
_ESCAPE = re.compile(r"&(?:amp|lt|gt|nbsp|lrm|rlm);")


@dataclass(frozen=True)
class Cue:
    start: float
    end: float
    speaker: str
    text: str


def parse_webvtt(data: bytes) -> list[Cue]:
    """The cues of a file."""
    text = data.decode("utf-8", "strict")
    assert "\0" not in text
    assert "\r" not in text, "the server writes LF alone"
    head, _, body = text.partition("\n")
    assert re.fullmatch(r"WEBVTT([ \t].*)?", head), head
    assert body == "" or body.startswith("\n"), "an empty line follows the head"
    cues = [_webvtt_cue(block.split("\n")) for block in re.split(r"\n{2,}", body.strip("\n")) if block]
    starts = [cue.start for cue in cues]
    assert starts == sorted(starts), "cues are in the order of their starts"
    return cues


def _webvtt_cue(lines: list[str]) -> Cue:
    if "-->" not in lines[0]:
        lines = lines[1:]
    times = _VTT_TIMES.fullmatch(lines[0])
    assert times is not None, lines[0]
    groups = times.groups("0")
    start, end = _seconds(*groups[:4]), _seconds(*groups[4:])
    assert end > start, lines[0]
    payload = "\n".join(lines[1:])
    assert payload, "a cue has a text"
    assert "-->" not in payload
    voice = _VOICE.match(payload)
    speaker = "" if voice is None else _unescaped(voice[1])
    return Cue(start, end, speaker.strip(), _unescaped(payload[voice.end() :] if voice else payload))


def _unescaped(text: str) -> str:
    assert "<" not in text and ">" not in text, f"no markup but the voice: {text}"
    assert "&" not in _ESCAPE.sub("", text), f"a bare ampersand: {text}"
    return html.unescape(text)


def parse_srt(data: bytes) -> list[Cue]:
    """The cues of a file; their texts begin with `SPEAKER: `."""
    text = data.decode("utf-8", "strict")
    assert text == "" or text.endswith("\n\n"), "an empty line ends each cue"
    cues = []
    for number, block in enumerate(text.removesuffix("\n\n").split("\n\n") if text else [], 1):
        count, timing, *lines = block.split("\n")
        assert count == str(number)
        times = _SRT_TIMES.fullmatch(timing)
        assert times is not None, timing
        start, end = _seconds(*times.groups()[:4]), _seconds(*times.groups()[4:])
        assert end > start
        assert lines and all(line.strip() and "-->" not in line for line in lines)
        cues.append(Cue(start, end, "", "\n".join(lines)))
    return cues


def _seconds(hours: str, minutes: str, seconds: str, milliseconds: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(milliseconds) / 1000
