//! Counts the items of a batch without decoding it: one pass over the tags and lengths of the top level of a message.

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;
/// Maximum length of a varint, in bytes.
const MAX_VARINT_BYTES: usize = 10;

/// Counts the occurrences of a length-delimited field at the top level. The count ends where the message is malformed:
/// the decoder will refuse it.
pub(super) fn count(message: &[u8], field: u32) -> u32 {
    let mut rest = message;
    let (mut found, mut depth) = (0_u32, 0_usize);
    while let Some((number, wire_type)) = tag(&mut rest) {
        let skipped = match wire_type {
            VARINT => varint(&mut rest).map(|_| 0),
            FIXED_64 => Some(8),
            LENGTH_DELIMITED => varint(&mut rest),
            // Groups are long out of use, but decoders still skip them; items after a group count.
            GROUP_START => {
                depth += 1;
                Some(0)
            }
            GROUP_END => depth.checked_sub(1).map(|outer| {
                depth = outer;
                0
            }),
            FIXED_32 => Some(4),
            _ => None,
        };
        let Some(behind) = skipped.and_then(|bytes| rest.get(usize::try_from(bytes).ok()?..)) else { break };
        rest = behind;
        if depth == 0 && number == u64::from(field) && wire_type == LENGTH_DELIMITED {
            found = found.saturating_add(1);
        }
    }
    found
}

/// Number of the next field and its wire type. None: there is no further field, or it is malformed.
fn tag(rest: &mut &[u8]) -> Option<(u64, u64)> {
    varint(rest).map(|tag| (tag >> 3, tag & 7))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, byte) in rest.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::proto;

    fn jobs(count: usize) -> proto::BatchSubmitJobsRequest {
        let job = |i: usize| proto::SubmitJobRequest {
            kind: format!("kind-{i}"),
            stages: vec![proto::StageSpec { name: "a".repeat(i % 200 + 1), ..Default::default() }; i % 3],
            ..Default::default()
        };
        proto::BatchSubmitJobsRequest { jobs: (0..count).map(job).collect(), ..Default::default() }
    }

    #[test]
    fn items_are_counted_as_a_decoder_would() {
        for items in [0, 1, 2, 127, 1_000] {
            let mut batch = jobs(items);
            batch.request_id = Some("6f1c8fd2-1f0e-4d7e-8a7e-5a4f3a2b1c0d".to_owned());
            assert_eq!(count(&batch.encode_to_vec(), 2), u32::try_from(items).expect("small"));
        }
        let renewals = vec![proto::LeaseRenewal { progress: Some(0.5), ..Default::default() }; 300];
        assert_eq!(count(&proto::HeartbeatRequest { renewals }.encode_to_vec(), 1), 300);
    }

    #[test]
    fn a_group_hides_no_items() {
        // An unknown field 9: a group with a field 2 inside, which does not belong to the top level.
        let group = [9 << 3 | 3, 2 << 3 | 2, 1, 0, 9 << 3 | 4];
        let mut message = [&group[..], &jobs(3).encode_to_vec()].concat();
        assert_eq!(proto::BatchSubmitJobsRequest::decode(&*message).expect("unknown fields are skipped").jobs.len(), 3);
        assert_eq!(count(&message, 2), 3);
        message.extend(group);
        assert_eq!(count(&message, 2), 3);
    }

    proptest! {
        #[test]
        fn whatever_a_decoder_takes_has_all_its_items_counted(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let counted = count(&bytes, 1);
            if let Ok(request) = proto::HeartbeatRequest::decode(&*bytes) {
                prop_assert_eq!(counted as usize, request.renewals.len());
            }
        }

        #[test]
        fn a_message_that_is_cut_off_has_no_more_items_than_the_whole(items in 0..20_usize, cut in 0..1_000_usize) {
            let whole = jobs(items).encode_to_vec();
            let cut = cut.min(whole.len());
            prop_assert!(count(&whole[..cut], 2) as usize <= items);
        }
    }
}
