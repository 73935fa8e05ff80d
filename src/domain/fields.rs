//! Fields of a record, sorted by name.
//!
//! A change copies the whole record, so copies have to be cheap. Names and fields are two vectors in the order of names; versions of a
//! record share the first, since names rarely change. A tree costs several times as much to copy and to drop, and is no faster to search
//! for so few names.

use std::sync::Arc;

use super::json::Json;
use super::short::Short;

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Version of the record at the last change of the field.
    pub version: i64,
    /// Value of the field.
    pub value: Json,
}

/// Fields, sorted by name; each name occurs once.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    names: Arc<Vec<Short>>,
    /// One field for each name.
    fields: Vec<Field>,
}

impl Fields {
    /// Number of fields of the record.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The field with this name.
    pub fn get(&self, name: &Short) -> Option<&Field> {
        self.place(name).ok().map(|place| &self.fields[place])
    }

    /// The field with this name for a change.
    pub fn get_mut(&mut self, name: &Short) -> Option<&mut Field> {
        self.place(name).ok().map(|place| &mut self.fields[place])
    }

    /// Whether there is a field with this name.
    pub fn contains_key(&self, name: &Short) -> bool {
        self.place(name).is_ok()
    }

    /// Stores a field under its name, and replaces the one that was there.
    pub fn insert(&mut self, name: &Short, field: Field) {
        match self.place(name) {
            Ok(place) => self.fields[place] = field,
            Err(place) => {
                Arc::make_mut(&mut self.names).insert(place, name.clone());
                self.fields.insert(place, field);
            }
        }
    }

    /// Removes a field, if it is there.
    pub fn remove(&mut self, name: &Short) {
        if let Ok(place) = self.place(name) {
            Arc::make_mut(&mut self.names).remove(place);
            self.fields.remove(place);
        }
    }

    /// Names and fields in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Short, &Field)> + Clone {
        self.names.iter().zip(&self.fields)
    }

    /// Fields in the order of names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Field> {
        self.fields.iter()
    }

    fn place(&self, name: &Short) -> Result<usize, usize> {
        self.names.binary_search(name)
    }
}

impl FromIterator<(Short, Field)> for Fields {
    /// Names have to be unique.
    fn from_iter<I: IntoIterator<Item = (Short, Field)>>(fields: I) -> Self {
        let mut fields: Vec<(Short, Field)> = fields.into_iter().collect();
        fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        debug_assert!(fields.is_sorted_by(|(a, _), (b, _)| a < b), "each name once");
        let (names, fields) = fields.into_iter().unzip();
        Self { names: Arc::new(names), fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(version: i64) -> Field {
        Field { version, value: Json::from_checked("1") }
    }

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let mut fields: Fields = [("c".into(), field(1)), ("a".into(), field(2))].into_iter().collect();
        let before = fields.clone();
        for (name, version) in [("b", 3), ("a", 4), ("", 5)] {
            fields.insert(&name.into(), field(version));
        }
        fields.remove(&"c".into());
        fields.remove(&"d".into());
        let all: Vec<(&str, i64)> = fields.iter().map(|(name, field)| (&**name, field.version)).collect();
        assert_eq!(all, [("", 5), ("a", 4), ("b", 3)]);
        assert_eq!((fields.len(), fields.is_empty(), fields.values().len()), (3, false, 3));
        assert_eq!((fields.get(&"b".into()), fields.get(&"c".into())), (Some(&field(3)), None));
        assert!(fields.contains_key(&"a".into()) && !fields.contains_key(&"aa".into()));
        assert!(fields.get_mut(&"a".into()).is_some() && fields.get_mut(&"c".into()).is_none());
        let before: Vec<(&str, i64)> = before.iter().map(|(name, field)| (&**name, field.version)).collect();
        assert_eq!(before, [("a", 2), ("c", 1)], "what it was copied from stays as it was");
    }
}
