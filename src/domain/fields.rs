//! The fields of a record by name.
//!
//! A change copies the record it is about, so copies have to be cheap: one vector in the order of names. A tree costs several times as
//! much to copy and to drop, and finds a name among so few no faster.

use super::record::Field;
use super::short::Short;

/// Fields, sorted by name, each name once.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(Short, Field)>);

impl Fields {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The field of a name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// The field of a name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Field> {
        self.place(name).ok().map(|place| &mut self.0[place].1)
    }

    /// Whether there is a field of a name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Puts a field in the place of its name, whatever was there.
    pub fn insert(&mut self, name: &Short, field: Field) {
        match self.place(name) {
            Ok(place) => self.0[place].1 = field,
            Err(place) => self.0.insert(place, (name.clone(), field)),
        }
    }

    /// Takes a field away, if it is there.
    pub fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Short, &Field)> {
        self.0.iter().map(|(name, field)| (name, field))
    }

    /// All of them without their names, in the order of these.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Field> {
        self.0.iter().map(|(_, field)| field)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(there, _)| there.as_bytes().cmp(name.as_bytes()))
    }
}

impl FromIterator<(Short, Field)> for Fields {
    /// Of names that are all different.
    fn from_iter<I: IntoIterator<Item = (Short, Field)>>(fields: I) -> Self {
        let mut fields: Vec<(Short, Field)> = fields.into_iter().collect();
        fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        debug_assert!(fields.is_sorted_by(|(a, _), (b, _)| a < b), "each name once");
        Self(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Json;

    fn field(version: i64) -> Field {
        Field { version, value: Json::from_checked("1") }
    }

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let mut fields: Fields = [("c".into(), field(1)), ("a".into(), field(2))].into_iter().collect();
        for (name, version) in [("b", 3), ("a", 4), ("", 5)] {
            fields.insert(&name.into(), field(version));
        }
        fields.remove("c");
        fields.remove("d");
        let all: Vec<(&str, i64)> = fields.iter().map(|(name, field)| (&**name, field.version)).collect();
        assert_eq!(all, [("", 5), ("a", 4), ("b", 3)]);
        assert_eq!((fields.len(), fields.is_empty(), fields.values().len()), (3, false, 3));
        assert_eq!((fields.get("b"), fields.get("c")), (Some(&field(3)), None));
        assert!(fields.contains_key("a") && !fields.contains_key("aa"));
        assert!(fields.get_mut("a").is_some() && fields.get_mut("c").is_none());
    }
}
