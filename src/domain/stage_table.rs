//! The stages of a job as a persistent vector: a change copies one chunk of 64, not up to 10,000 stages.

use std::sync::Arc;

use super::id::StageNo;
use super::stage::Stage;

const CHUNK: usize = 64;

/// Stages by number, without gaps. Clones share the chunks that neither side has changed.
#[derive(Clone, Debug, Default)]
pub struct StageTable {
    chunks: Vec<Arc<Vec<Arc<Stage>>>>,
}

impl StageTable {
    /// Number of stages in the table.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The stage of a number.
    pub fn get(&self, no: StageNo) -> Option<&Arc<Stage>> {
        let index = no as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The stage with this number for a change; shared chunks are copied first.
    pub fn get_mut(&mut self, no: StageNo) -> Option<&mut Stage> {
        let index = no as usize;
        let chunk = Arc::make_mut(self.chunks.get_mut(index / CHUNK)?);
        chunk.get_mut(index % CHUNK).map(Arc::make_mut)
    }

    /// Stores a stage at its number, which is in the table or the next one.
    pub fn put(&mut self, stage: Arc<Stage>) {
        let index = stage.no as usize;
        if index / CHUNK == self.chunks.len() {
            self.chunks.push(Arc::new(Vec::with_capacity(1)));
        }
        let chunk = Arc::make_mut(&mut self.chunks[index / CHUNK]);
        match chunk.get_mut(index % CHUNK) {
            Some(place) => *place = stage,
            None => {
                assert_eq!(index % CHUNK, chunk.len(), "stages are numbered without holes");
                chunk.push(stage);
            }
        }
    }

    /// All stages in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stage>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl std::ops::Index<StageNo> for StageTable {
    type Output = Stage;

    /// The stage of a number that is known to exist.
    fn index(&self, no: StageNo) -> &Stage {
        self.get(no).expect("the number comes from this job")
    }
}
