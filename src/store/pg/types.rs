//! Conversions of the domain's values to and from the binary format of Postgres.

use std::error::Error;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::domain::credential::SecretHash;
use crate::domain::short::Short;
use crate::domain::time::Timestamp;

/// Microseconds from 1970, where ours begin, to 2000, where timestamps of Postgres begin.
const EPOCH_OFFSET: i64 = 946_684_800_000_000;

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.saturating_sub(EPOCH_OFFSET).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_OFFSET)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// Its `Debug` shows nothing, since drivers log the values of parameters.
impl ToSql for SecretHash {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::BYTEA
    }

    to_sql_checked!();
}

impl ToSql for Short {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }

    to_sql_checked!();
}

/// JSON text of a `json`, `jsonb` or `text` column.
#[derive(Clone, Debug)]
pub struct JsonText(pub Arc<str>);

impl JsonText {
    /// A value of ours as JSON.
    pub fn of(value: &impl serde::Serialize) -> Self {
        Self(serde_json::to_string(value).expect("our own types have string keys and serialize without errors").into())
    }
}

impl ToSql for JsonText {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if *ty == Type::JSONB {
            // The binary form of jsonb is a version byte and the text.
            out.extend_from_slice(&[1]);
        }
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSON, Type::JSONB, Type::TEXT].contains(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for JsonText {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let raw = if *ty == Type::JSONB { raw.get(1..).ok_or("an empty jsonb value")? } else { raw };
        Ok(Self(std::str::from_utf8(raw)?.into()))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSON, Type::JSONB, Type::TEXT].contains(ty)
    }
}
