//! Texts of callers within the formats of subtitles, none of which they can break.

/// The lines of a text that have anything: a blank one would end a subtitle.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty())
}

/// A text as one line.
pub(super) fn one_line(text: &str) -> String {
    lines(text).collect::<Vec<_>>().join(" ")
}

/// A line or the name of a voice in WebVTT. Without `>` no arrow ends it, without `<` and `&` it has no markup.
pub(super) fn vtt_line(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line of a SubRip subtitle. The format has no escapes: an arrow, which players take for times, becomes one character. Characters that open markup
/// stay, since players show what is not markup.
pub(super) fn srt_line(line: &str) -> String {
    line.replace("-->", "→")
}
