//! The language that a text is searched in: one of Postgres' text search configurations, by the tag of the segment.

/// A text search configuration of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchLanguage(u8);

/// Name of each configuration in `pg_catalog`, and the primary subtags that it stands for (ISO 639-1 and 639-2). The position is the number that the
/// database stores, so entries are only ever added at the end.
const CONFIGURATIONS: [(&str, &[&str]); 29] = [
    ("simple", &[]),
    ("arabic", &["ar", "ara", "arb"]),
    ("armenian", &["hy", "hye", "arm"]),
    ("basque", &["eu", "eus", "baq"]),
    ("catalan", &["ca", "cat"]),
    ("danish", &["da", "dan"]),
    ("dutch", &["nl", "nld", "dut"]),
    ("english", &["en", "eng"]),
    ("finnish", &["fi", "fin"]),
    ("french", &["fr", "fra", "fre"]),
    ("german", &["de", "deu", "ger"]),
    ("greek", &["el", "ell", "gre"]),
    ("hindi", &["hi", "hin"]),
    ("hungarian", &["hu", "hun"]),
    ("indonesian", &["id", "ind", "in"]),
    ("irish", &["ga", "gle"]),
    ("italian", &["it", "ita"]),
    ("lithuanian", &["lt", "lit"]),
    ("nepali", &["ne", "nep"]),
    ("norwegian", &["no", "nor", "nb", "nob", "nn", "nno"]),
    ("portuguese", &["pt", "por"]),
    ("romanian", &["ro", "ron", "rum", "mo"]),
    ("russian", &["ru", "rus"]),
    ("serbian", &["sr", "srp"]),
    ("spanish", &["es", "spa"]),
    ("swedish", &["sv", "swe"]),
    ("tamil", &["ta", "tam"]),
    ("turkish", &["tr", "tur"]),
    ("yiddish", &["yi", "yid", "ji"]),
];

impl SearchLanguage {
    /// Words as they are, of languages without a configuration.
    pub const SIMPLE: Self = Self(0);

    /// The configuration of a BCP 47 tag, by its primary subtag and without case: `pt-BR` is Portuguese. [`Self::SIMPLE`] where Postgres has none, as for
    /// `zh-Hant`, and where the text is no tag.
    pub fn of_tag(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        let found =
            CONFIGURATIONS.iter().position(|(_, tags)| tags.iter().any(|tag| tag.eq_ignore_ascii_case(primary)));
        found.and_then(|number| u8::try_from(number).ok()).map_or(Self::SIMPLE, Self)
    }

    /// Every configuration, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..CONFIGURATIONS.len()).filter_map(|number| u8::try_from(number).ok()).map(Self)
    }

    /// The number that the database stores.
    pub fn number(self) -> i16 {
        i16::from(self.0)
    }

    /// The configuration with this number. None: there is none.
    pub fn of_number(number: i16) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (usize::from(number) < CONFIGURATIONS.len()).then_some(Self(number))
    }

    /// Name of the configuration in `pg_catalog`.
    pub fn name(self) -> &'static str {
        CONFIGURATIONS[usize::from(self.0)].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_matched_by_their_primary_subtag() {
        for (tag, name) in [
            ("en", "english"),
            ("EN-us", "english"),
            ("pt-BR", "portuguese"),
            ("de_AT", "german"),
            ("nb", "norwegian"),
            ("nn-NO", "norwegian"),
            ("no", "norwegian"),
            ("sr-Latn-RS", "serbian"),
            ("zh-Hant", "simple"),
            ("ja", "simple"),
            ("th", "simple"),
            ("tlh", "simple"),
            ("enm", "simple"),
            ("", "simple"),
            ("-en", "simple"),
            ("x-english", "simple"),
            ("ü", "simple"),
        ] {
            assert_eq!(SearchLanguage::of_tag(tag).name(), name, "{tag}");
        }
    }

    #[test]
    fn numbers_are_stored_and_never_move() {
        assert_eq!((SearchLanguage::SIMPLE.number(), SearchLanguage::of_tag("en").number()), (0, 7));
        assert_eq!(SearchLanguage::of_tag("yi").number(), 28);
        assert!(SearchLanguage::all().all(|language| SearchLanguage::of_number(language.number()) == Some(language)));
        assert_eq!([-1, 29, 300].map(SearchLanguage::of_number), [None; 3]);
    }

    #[test]
    fn a_tag_has_one_configuration() {
        let mut tags: Vec<&str> = CONFIGURATIONS.iter().flat_map(|(_, tags)| tags.iter().copied()).collect();
        let all = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), all);
    }
}
