//! ClearSessionCache: removes the segments of one session from the cache of this server.

use crate::error::Result;
use crate::proto::{ClearSessionCacheRequest, ClearSessionCacheResponse};
use crate::rpc::caller::Caller;
use crate::rpc::convert::session;

/// ClearSessionCache.
pub async fn clear_session_cache(
    caller: Caller,
    request: ClearSessionCacheRequest,
) -> Result<ClearSessionCacheResponse> {
    let session = session::named(caller.namespace, &request.session_id)?;
    let cleared = caller.services.engine.shared().cache.remove_segments(session.key);
    Ok(ClearSessionCacheResponse { cleared_count: i64::try_from(cleared).unwrap_or(i64::MAX) })
}
