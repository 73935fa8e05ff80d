//! The probe of health: a commit that changes nothing, to show that commits succeed.

use super::{Operation, Reply};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};

/// Writes only the row of its group, which every group leaves for ten minutes.
#[derive(Debug)]
pub struct Probe;

impl Operation for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn is_probe(&self) -> bool {
        true
    }

    fn decide(&self, _: &mut Overlay) -> Result<Reply, Refusal> {
        Ok(Reply::default())
    }
}
