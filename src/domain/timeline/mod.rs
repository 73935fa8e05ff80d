//! Reading timelines: how text becomes words that can be searched, what a query asks for, what was spoken, and subtitles. Pure, like all of the domain.

pub mod export;
pub mod query;
pub mod search_language;
pub mod search_query;
pub mod search_text;
pub mod snippet;
pub mod spoken_time;
pub mod statistics;
