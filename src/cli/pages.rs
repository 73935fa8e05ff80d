//! Lists that come in pages, read up to `--limit`.

use std::mem::take;

use clap::Args;
use prost::Name;

use super::failure::Failed;
use super::output::{Output, print};
use super::text::note;
use crate::proto;

/// Largest page that is asked for; the server allows as many.
const PAGE: usize = 1_000;

/// Flag for the length of a list.
#[derive(Clone, Copy, Debug, Args)]
pub struct Limit {
    /// Maximum number of lines.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl Limit {
    /// Prints what [`Self::pages`] found, and says on the standard error that the list goes on, if it does. JSON has the token of the next page.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn print<P: ListPage + Name>(
        self,
        output: Output,
        mut found: P,
        lines: impl FnOnce(&P) -> Vec<String>,
    ) -> anyhow::Result<()> {
        print(output, &found, lines)?;
        if output == Output::Text && !found.parts().1.is_empty() {
            note(format!("there are more: --limit is {}", self.limit));
        }
        Ok(())
    }

    /// Reads pages until the limit, and returns them as one. Its page token is set if the list goes on. `page` reads one page of a size
    /// after a token.
    ///
    /// # Errors
    /// The first error of `page`.
    pub async fn pages<P: ListPage>(
        self,
        mut page: impl AsyncFnMut(i32, String) -> Result<P, Failed>,
    ) -> Result<P, Failed> {
        let limit = self.limit as usize;
        let mut found = P::default();
        loop {
            let (items, token) = found.parts();
            let size = i32::try_from((limit - items.len()).min(PAGE)).unwrap_or_default();
            let mut next = page(size, take(token)).await?;
            let (more, next_token) = next.parts();
            let (items, token) = found.parts();
            items.append(more);
            *token = take(next_token);
            // A server never sends more than was asked for.
            items.truncate(limit);
            if token.is_empty() || items.len() == limit {
                return Ok(found);
            }
        }
    }
}

/// A page of a list.
pub trait ListPage: Default {
    /// What is listed.
    type Item;

    /// The items, and the token of the next page; empty: this is the last one.
    fn parts(&mut self) -> (&mut Vec<Self::Item>, &mut String);
}

macro_rules! pages {
    ($($page:ident has $items:ident: $item:ident;)*) => {
        $(
            impl ListPage for proto::$page {
                type Item = proto::$item;

                fn parts(&mut self) -> (&mut Vec<Self::Item>, &mut String) {
                    (&mut self.$items, &mut self.next_page_token)
                }
            }
        )*
    };
}

pages! {
    ListJobsResponse has jobs: Job;
    ListJobEventsResponse has events: JobEvent;
    ListAuditEventsResponse has events: AuditEvent;
    ListQueuesResponse has queues: Queue;
    ListWorkersResponse has workers: WorkerLeases;
    ListRecordsResponse has records: Record;
    ListCollectionsResponse has collections: Collection;
    ListResourcesResponse has resources: Resource;
    ListWaitersResponse has waiters: PermitWaiter;
    ListNamespacesResponse has namespaces: Namespace;
    ListSessionsResponse has sessions: Session;
    QueryTimelineResponse has segments: Segment;
    SearchSegmentsResponse has results: SearchResult;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ListNamespacesResponse, Namespace};

    #[tokio::test]
    async fn pages_are_read_up_to_the_limit_also_past_empty_ones() {
        let list = async |limit| {
            let mut asked = Vec::new();
            let page = async |size: i32, token: String| {
                asked.push((size, token.clone()));
                let number = token.parse::<usize>().unwrap_or(0);
                let names = if number == 1 { 0 } else { size.min(2) };
                let namespaces = (0..names).map(|_| Namespace::default()).collect();
                let next_page_token = if number == 3 { String::new() } else { (number + 1).to_string() };
                Ok(ListNamespacesResponse { namespaces, next_page_token })
            };
            let found = Limit { limit }.pages(page).await.expect("pages");
            (found.namespaces.len(), found.next_page_token, asked.len())
        };
        assert_eq!(list(100).await, (6, String::new(), 4));
        assert_eq!(list(3).await, (3, "3".to_owned(), 3));
    }
}
