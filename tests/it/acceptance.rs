//! One file per system that the server replaces, through the public interface alone.

mod content_production;
mod document_edits;
mod meetings;
mod pipeline_crash;
mod pipeline_state;
mod presentation_jobs;
mod presentation_watch;
