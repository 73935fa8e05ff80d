//! The recording of a segment: where it is, or its bytes, which are checked against what the caller says of them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::path::Path;
use super::text;
use crate::domain::refusal::Refusal;
use crate::domain::session::segment::{Content, MAX_INLINE_BYTES};
use crate::domain::short::Short;
use crate::proto;
use crate::proto::segment_content::Source;
use crate::rpc::limits;

/// Reads a recording, where there may be none.
pub fn optional(given: Option<&proto::SegmentContent>, path: &Path) -> Result<Option<Content>, Refusal> {
    given.map(|given| recording(given, path)).transpose()
}

fn recording(given: &proto::SegmentContent, path: &Path) -> Result<Content, Refusal> {
    let (size_path, sha256_path) = (path.field("size_bytes"), path.field("sha256"));
    let (mut size_bytes, mut sha256) = (given.size_bytes, sha256(&given.sha256, &sha256_path)?);
    if size_bytes.is_some_and(|size| size < 0) {
        return Err(size_path.refuse("must not be negative"));
    }
    let media_type: Short = text::line(&given.media_type, limits::MEDIA_TYPE_BYTES, &path.field("media_type"))?;
    let mut content = Content {
        uri: None,
        inline_data: None,
        size_bytes: None,
        sha256: None,
        media_type: Some(media_type).filter(|media_type| !media_type.is_empty()),
    };
    match &given.source {
        None => return Err(path.field("source").missing()),
        Some(Source::Uri(uri)) if uri.is_empty() => return Err(path.field("uri").empty()),
        Some(Source::Uri(uri)) => content.uri = Some(text::line(uri, limits::URI_BYTES, &path.field("uri"))?),
        Some(Source::InlineData(data)) => {
            let data_path = path.field("inline_data");
            if data.is_empty() || data.len() > MAX_INLINE_BYTES {
                return Err(data_path.refuse(format!("has {} bytes, 1 to {MAX_INLINE_BYTES} are allowed", data.len())));
            }
            let actual = i64::try_from(data.len()).unwrap_or(i64::MAX);
            if size_bytes.is_some_and(|size| size != actual) {
                return Err(size_path.refuse(format!("inline_data has {actual} bytes")));
            }
            let digest = hexadecimal(&Sha256::digest(data));
            if sha256.as_ref().is_some_and(|sha256| **sha256 != *digest) {
                return Err(sha256_path.refuse(format!("inline_data has {digest}")));
            }
            (size_bytes, sha256) = (Some(actual), Some(digest.into()));
            content.inline_data = Some(data.as_ref().into());
        }
    }
    Ok(Content { size_bytes, sha256, ..content })
}

fn sha256(given: &str, path: &Path) -> Result<Option<Short>, Refusal> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.len() != 64 || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(path.mismatch("[0-9a-f]{64}", given));
    }
    Ok(Some(given.to_ascii_lowercase().into()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A recording as a message.
pub fn to_proto(content: &Content) -> proto::SegmentContent {
    let owned = |text: &Option<Short>| text.as_ref().map(ToString::to_string);
    let uri = owned(&content.uri).map(Source::Uri);
    let data = content.inline_data.as_ref().map(|data| Source::InlineData(prost::bytes::Bytes::copy_from_slice(data)));
    proto::SegmentContent {
        source: uri.or(data),
        size_bytes: content.size_bytes,
        sha256: owned(&content.sha256).unwrap_or_default(),
        media_type: owned(&content.media_type).unwrap_or_default(),
    }
}
