//! The fields of an encoded message, one after the other.

use bytes::Buf;
use prost::DecodeError;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::Kind;

/// The content of a field.
#[derive(Clone, Copy)]
pub(crate) enum WirePart<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl WirePart<'_> {
    /// The content of a field that is absent.
    pub(super) fn default_of(kind: &Kind) -> WirePart<'static> {
        match kind {
            Kind::String | Kind::Bytes | Kind::Message(_) => WirePart::Bytes(&[]),
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WirePart::Fixed64(0),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WirePart::Fixed32(0),
            _ => WirePart::Varint(0),
        }
    }
}

/// Reads fields with their numbers from the front.
pub(crate) struct WireParts<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for WireParts<'a> {
    type Item = Result<(u32, WirePart<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let next = self.read();
        if next.is_err() {
            self.0 = &[];
        }
        Some(next)
    }
}

impl<'a> WireParts<'a> {
    fn read(&mut self) -> Result<(u32, WirePart<'a>), DecodeError> {
        let (number, wire) = decode_key(&mut self.0)?;
        Ok((number, self.part(wire)?))
    }

    /// Reads the content of a field that is encoded in this way.
    pub(super) fn part(&mut self, wire: WireType) -> Result<WirePart<'a>, DecodeError> {
        match wire {
            WireType::Varint => decode_varint(&mut self.0).map(WirePart::Varint),
            WireType::SixtyFourBit => self.0.try_get_u64_le().map(WirePart::Fixed64).map_err(|_| cut_off()),
            WireType::ThirtyTwoBit => self.0.try_get_u32_le().map(WirePart::Fixed32).map_err(|_| cut_off()),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0)?).map_err(|_| cut_off())?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(cut_off)?;
                self.0 = rest;
                Ok(WirePart::Bytes(bytes))
            }
            WireType::StartGroup | WireType::EndGroup => Err(malformed("groups are not written")),
        }
    }
}

/// The encoding of a kind outside of packed lists.
pub(super) fn wire_type(kind: &Kind) -> WireType {
    match WirePart::default_of(kind) {
        WirePart::Varint(_) => WireType::Varint,
        WirePart::Fixed64(_) => WireType::SixtyFourBit,
        WirePart::Fixed32(_) => WireType::ThirtyTwoBit,
        WirePart::Bytes(_) => WireType::LengthDelimited,
    }
}

fn cut_off() -> DecodeError {
    malformed("the message is cut off")
}

#[allow(deprecated, reason = "there is no other way to make this error")]
pub(super) fn malformed(why: &'static str) -> DecodeError {
    DecodeError::new(why)
}
