//! Root rows whose locks the contended lane takes before it loads them, in the one order in which all servers take them: that of the list of
//! aggregates, and then by key.

use crate::domain::aggregate::{Aggregate, for_each_aggregate};
use crate::operation::overlay::Key;
use crate::store::aggregate::Stored;
use crate::store::connection::{DbResult, Run};

macro_rules! define_roots {
    ($($table:ident: $variant:ident, $aggregate:ty;)*) => {
        /// Root rows to be locked.
        #[derive(Default)]
        pub struct Roots {
            $($table: Vec<<$aggregate as Aggregate>::Key>,)*
        }

        impl Roots {
            /// The roots among some keys, none of which comes twice.
            pub fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
                let mut this = Self::default();
                for key in keys {
                    match key {
                        $(Key::$variant(key) => this.$table.push(key.clone()),)*
                        Key::Lease(_) | Key::Request(_) | Key::Namespace(_) | Key::NamespaceName(_) | Key::AuditLog => {}
                    }
                }
                $(this.$table.sort_unstable();)*
                this
            }

            /// Takes the locks. With `wait` it waits for each of them, else it fails where another session holds one.
            pub async fn lock(&self, client: &impl Run, wait: bool) -> DbResult<()> {
                $(
                    if !self.$table.is_empty() {
                        <$aggregate as Stored>::lock(client, &self.$table, wait).await?;
                    }
                )*
                Ok(())
            }
        }
    };
}
for_each_aggregate!([define_roots]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{JobKey, NamespaceId};
    use crate::domain::lease::LeaseKey;

    #[test]
    fn roots_are_locked_in_the_order_of_their_keys_and_leases_are_none() {
        let job = |uid| JobKey { namespace: NamespaceId(1), uid: uuid::Uuid::from_u128(uid) };
        let lease = Key::Lease(LeaseKey { job: job(4), stage_no: 0 });
        let keys = [Key::Job(job(3)), lease, Key::Job(job(1)), Key::AuditLog, Key::Job(job(2))];
        let roots = Roots::of(keys.iter());
        assert_eq!(roots.jobs, [1, 2, 3].map(job));
        assert!(roots.records.is_empty() && roots.resources.is_empty());
    }
}
