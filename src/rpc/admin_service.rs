//! AdminService: what the server is and does, and namespaces. Credentials and the audit log are in `keys` and `audit`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::{Caller, answer, answer_unscoped};
use super::convert::path::Path;
use super::convert::{digest, text, time};
use super::keys;
use super::page::{self, Binding};
use super::services::Services;
use super::timeline::cache;
use super::{audit, server_figures};
use crate::admission::DEFAULT_NAMESPACE;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::namespace::Namespace;
use crate::domain::refusal::Refusal;
use crate::error::{Result, after_commit};
use crate::operation::namespace::{CreateNamespace, DeleteNamespace};
use crate::proto::admin_service_server::AdminService;
use crate::proto::*;

/// The rpcs of AdminService.
pub struct AdminRpcs(pub Arc<Services>);

type Answer<A> = std::result::Result<Response<A>, Status>;

#[tonic::async_trait]
impl AdminService for AdminRpcs {
    async fn get_server_info(&self, _: Request<GetServerInfoRequest>) -> Answer<GetServerInfoResponse> {
        Ok(Response::new(server_figures::info()))
    }

    async fn get_statistics(&self, _: Request<GetStatisticsRequest>) -> Answer<GetStatisticsResponse> {
        Ok(Response::new(server_figures::statistics(&self.0)))
    }

    async fn create_namespace(&self, request: Request<CreateNamespaceRequest>) -> Answer<CreateNamespaceResponse> {
        answer_unscoped(&self.0, request, create_namespace).await
    }

    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        answer_unscoped(&self.0, request, list_namespaces).await
    }

    async fn delete_namespace(&self, request: Request<DeleteNamespaceRequest>) -> Answer<DeleteNamespaceResponse> {
        answer_unscoped(&self.0, request, delete_namespace).await
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Answer<CreateKeyResponse> {
        answer_unscoped(&self.0, request, keys::create_key).await
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Answer<ListKeysResponse> {
        answer_unscoped(&self.0, request, keys::list_keys).await
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Answer<RevokeKeyResponse> {
        answer_unscoped(&self.0, request, keys::revoke_key).await
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Answer<RotateKeyResponse> {
        answer_unscoped(&self.0, request, keys::rotate_key).await
    }

    async fn list_audit_events(&self, request: Request<ListAuditEventsRequest>) -> Answer<ListAuditEventsResponse> {
        answer_unscoped(&self.0, request, audit::list_audit_events).await
    }

    async fn clear_session_cache(
        &self,
        request: Request<ClearSessionCacheRequest>,
    ) -> Answer<ClearSessionCacheResponse> {
        answer(&self.0, request, cache::clear_session_cache).await
    }
}

fn name(given: &str) -> std::result::Result<Name, Refusal> {
    text::namespace(given, &Path::Root.field("name"))
}

async fn create_namespace(caller: Caller, mut request: CreateNamespaceRequest) -> Result<CreateNamespaceResponse> {
    let identity = digest::identity(caller.namespace, &mut request)?;
    let name = name(&request.name)?;
    if let Some(principal) = caller.principal().filter(|principal| !principal.covers(&name)) {
        // Before it is known whether it exists.
        let why = format!("{} is not valid in namespace {name:?}, so it cannot create it", principal.name);
        return Err(Refusal::RoleDenied { principal: principal.name.clone(), roles: String::new(), why }.into());
    }
    let operation = CreateNamespace { name: name.clone(), request: identity };
    let reply = caller.execute(operation).await?;
    caller.services.namespaces.forget(&name);
    let namespace = caller.services.store.namespace(&name).await.map_err(after_commit)?;
    Ok(CreateNamespaceResponse { namespace: namespace.as_ref().map(to_proto), replayed: reply.replayed.is_some() })
}

async fn delete_namespace(caller: Caller, mut request: DeleteNamespaceRequest) -> Result<DeleteNamespaceResponse> {
    let identity = digest::identity(caller.namespace, &mut request)?;
    let name = name(&request.name)?;
    if &*name == DEFAULT_NAMESPACE {
        return Err(Path::Root.field("name").refuse("must not be default, the namespace that always exists").into());
    }
    if !caller.covers(&name) {
        return Err(Refusal::NamespaceNotFound { name: name.to_string() }.into());
    }
    // What is not there is for the decision to refuse: a repeat of its deletion finds it gone. No namespace has number 0.
    let found = caller.services.store.namespace(&name).await?;
    let id = found.map_or(NamespaceId(0), |namespace| namespace.id);
    let operation = DeleteNamespace { id, name: name.clone(), request: identity };
    let reply = caller.execute(operation).await?;
    caller.services.namespaces.forget(&name);
    Ok(DeleteNamespaceResponse { replayed: reply.replayed.is_some() })
}

async fn list_namespaces(caller: Caller, request: ListNamespacesRequest) -> Result<ListNamespacesResponse> {
    let limit = page::size(request.page_size)?;
    let binding = Binding::of("ListNamespaces", NamespaceId(0), &[]);
    let after: String = binding.cursor(&request.page_token)?.unwrap_or_default();
    if !after.is_empty() {
        // Tokens are not signed; this goes into a query.
        text::namespace(&after, &Path::Root.field("page_token"))?;
    }
    let covered = caller.principal().map(|principal| &*principal.namespaces);
    let mut found = caller.services.store.namespaces_page(&after, covered, limit + 1).await?;
    let is_last = found.len() <= limit as usize;
    found.truncate(limit as usize);
    let next_page_token = match found.last() {
        Some(last) if !is_last => binding.token(&&*last.name)?,
        Some(_) | None => String::new(),
    };
    Ok(ListNamespacesResponse { namespaces: found.iter().map(to_proto).collect(), next_page_token })
}

fn to_proto(namespace: &Namespace) -> crate::proto::Namespace {
    crate::proto::Namespace {
        name: namespace.name.to_string(),
        create_time: Some(time::timestamp(namespace.create_time)),
    }
}
