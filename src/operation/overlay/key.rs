//! Keys: how operations name what they read and write.

use super::table::AggregateTable;
use crate::domain::aggregate::{Aggregate, for_each_aggregate};
use crate::domain::id::{Name, NamespaceId};
use crate::domain::lease::LeaseKey;
use crate::domain::request::RequestKey;

/// An aggregate that has keys among [`Key`] and a table in each overlay.
pub trait Keyed: Aggregate {
    /// The key of an aggregate among all keys.
    fn to_key(key: Self::Key) -> Key;

    /// The aggregate's own key. None: the key is of something else.
    fn of_key(key: &Key) -> Option<&Self::Key>;

    /// The table of these aggregates.
    fn table(tables: &AggregateTables) -> &AggregateTable<Self>;

    /// The table of these aggregates.
    fn table_mut(tables: &mut AggregateTables) -> &mut AggregateTable<Self>;
}

macro_rules! define_keys {
    ($($table:ident: $variant:ident, $aggregate:ty;)*) => {
        /// What an operation can read or write.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(clippy::enum_variant_names, reason = "the key ring is an aggregate")]
        pub enum Key {
            $(
                #[doc = concat!("The key of an aggregate, ", stringify!($variant), ".")]
                $variant(<$aggregate as Aggregate>::Key),
            )*
            /// The expiry of a lease, which is not part of the version of its job.
            Lease(LeaseKey),
            /// A request id with the response to it.
            Request(RequestKey),
            /// A namespace by number.
            Namespace(NamespaceId),
            /// A namespace by name, to create one.
            NamespaceName(Name),
            /// The audit log, which is only added to.
            AuditLog,
        }

        impl Key {
            /// Whether it is the key of an aggregate, whose root row is locked while what was decided on it is written.
            pub fn is_root(&self) -> bool {
                match self {
                    $(Self::$variant(_) => true,)*
                    Self::Lease(_) | Self::Request(_) | Self::Namespace(_) | Self::NamespaceName(_) | Self::AuditLog => {
                        false
                    }
                }
            }

            /// The namespace that it is in. None: it belongs to the server as a whole, or is the name of a namespace, which may not exist.
            pub fn namespace(&self) -> Option<NamespaceId> {
                match self {
                    $(Self::$variant(key) => <$aggregate as Aggregate>::namespace(key),)*
                    Self::Lease(key) => Some(key.job.namespace),
                    Self::Request(key) => Some(key.namespace),
                    Self::Namespace(id) => Some(*id),
                    Self::NamespaceName(_) | Self::AuditLog => None,
                }
            }
        }

        /// The aggregates of an overlay, a table for each kind.
        #[derive(Debug, Default)]
        pub struct AggregateTables {
            $(
                #[doc = concat!("Aggregates of type ", stringify!($variant), ".")]
                pub $table: AggregateTable<$aggregate>,
            )*
        }

        impl AggregateTables {
            /// Makes the writes of the operation part of the group.
            pub(super) fn release(&mut self) {
                $(self.$table.release();)*
            }

            /// Takes the writes of the operation back. `read` gets the keys whose reads were left out because the operation wrote them.
            pub(super) fn roll_back(&mut self, read: &mut Vec<Key>) {
                $(
                    let keys = self.$table.roll_back().map(<$aggregate as Keyed>::to_key);
                    if <$aggregate as Aggregate>::HAS_UNVERSIONED_ROWS { keys.for_each(drop) } else { read.extend(keys) }
                )*
            }

            /// Whether no operation is in the middle of its writes.
            pub(super) fn are_settled(&self) -> bool {
                true $(&& self.$table.is_settled())*
            }
        }

        $(
            impl Keyed for $aggregate {
                fn to_key(key: Self::Key) -> Key {
                    Key::$variant(key)
                }

                fn of_key(key: &Key) -> Option<&Self::Key> {
                    match key {
                        Key::$variant(key) => Some(key),
                        _ => None,
                    }
                }

                fn table(tables: &AggregateTables) -> &AggregateTable<Self> {
                    &tables.$table
                }

                fn table_mut(tables: &mut AggregateTables) -> &mut AggregateTable<Self> {
                    &mut tables.$table
                }
            }
        )*
    };
}
for_each_aggregate!([define_keys]);

/// A `match` on a key with one arm for all aggregates, in which a name stands for the type of the aggregate and another for its key.
/// The other arms follow as usual:
/// `match_key!(key, A, id => load::<A>(id), Key::Lease(lease) => …, …)`.
macro_rules! match_key {
    ($key:expr, $type:ident, $id:pat => $body:expr, $($others:tt)*) => {
        $crate::domain::aggregate::for_each_aggregate!(
            [$crate::operation::overlay::match_aggregate_key] { $key } { $type } { $id } { $body } { $($others)* }
        )
    };
}
pub(crate) use match_key;

/// The match of [`match_key`], once the list of aggregates is known.
macro_rules! match_aggregate_key {
    (
        { $key:expr } { $type:ident } { $id:pat } { $body:expr } { $($others:tt)* }
        $($table:ident: $variant:ident, $aggregate:ty;)*
    ) => {
        match $key {
            $($crate::operation::overlay::Key::$variant($id) => {
                type $type = $aggregate;
                $body
            })*
            $($others)*
        }
    };
}
pub(crate) use match_aggregate_key;
