//! AdminService: what the server is and does, and namespaces.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::caller::{DEFAULT_NAMESPACE, after_commit, deadline};
use super::convert::path::Path;
use super::convert::{digest, text, time};
use super::page::{self, Binding};
use super::server_figures;
use super::services::Services;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::namespace::Namespace;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::error::Result;
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
        let deadline = deadline(&request);
        Ok(Response::new(create_namespace(&self.0, deadline, request.into_inner()).await?))
    }

    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        Ok(Response::new(list_namespaces(&self.0, request.into_inner()).await?))
    }

    async fn delete_namespace(&self, request: Request<DeleteNamespaceRequest>) -> Answer<DeleteNamespaceResponse> {
        let deadline = deadline(&request);
        Ok(Response::new(delete_namespace(&self.0, deadline, request.into_inner()).await?))
    }
}

/// The identity of a request that is about no namespace of its own: it is remembered with the one that always exists.
async fn identity<R: digest::Repeatable>(services: &Services, request: &mut R) -> Result<Option<RequestIdentity>> {
    if request.request_id().is_none() {
        return Ok(None);
    }
    Ok(digest::identity(services.namespaces.id(DEFAULT_NAMESPACE).await?, request)?)
}

fn name(given: &str) -> std::result::Result<Name, Refusal> {
    text::namespace(given, &Path::Root.field("name"))
}

async fn create_namespace(
    services: &Services,
    deadline: Option<Instant>,
    mut request: CreateNamespaceRequest,
) -> Result<CreateNamespaceResponse> {
    let identity = identity(services, &mut request).await?;
    let name = name(&request.name)?;
    let operation = CreateNamespace { name: name.clone(), request: identity };
    let reply = services.engine.execute(operation, deadline).await?;
    services.namespaces.forget(&name);
    let namespace = services.store.namespace(&name).await.map_err(after_commit)?;
    Ok(CreateNamespaceResponse { namespace: namespace.as_ref().map(told), replayed: reply.replayed.is_some() })
}

async fn delete_namespace(
    services: &Services,
    deadline: Option<Instant>,
    mut request: DeleteNamespaceRequest,
) -> Result<DeleteNamespaceResponse> {
    let identity = identity(services, &mut request).await?;
    let name = name(&request.name)?;
    if &*name == DEFAULT_NAMESPACE {
        return Err(Path::Root.field("name").refuse("the namespace default cannot be deleted").into());
    }
    // What is not there is for the decision to refuse: a repeat of its deletion finds it gone. No namespace has number 0.
    let found = services.store.namespace(&name).await?;
    let id = found.map_or(NamespaceId(0), |namespace| namespace.id);
    let operation = DeleteNamespace { id, name: name.clone(), request: identity };
    let reply = services.engine.execute(operation, deadline).await?;
    services.namespaces.forget(&name);
    Ok(DeleteNamespaceResponse { replayed: reply.replayed.is_some() })
}

async fn list_namespaces(services: &Services, request: ListNamespacesRequest) -> Result<ListNamespacesResponse> {
    let limit = page::size(request.page_size)?;
    let binding = Binding::of("ListNamespaces", NamespaceId(0), &[]);
    let after: String = binding.cursor(&request.page_token)?.unwrap_or_default();
    if !after.is_empty() {
        // Tokens are not signed; this goes into a query.
        text::namespace(&after, &Path::Root.field("page_token"))?;
    }
    let mut found = services.store.namespaces_page(&after, limit + 1).await?;
    let is_last = found.len() <= limit as usize;
    found.truncate(limit as usize);
    let next_page_token = match found.last() {
        Some(last) if !is_last => binding.token(&&*last.name)?,
        Some(_) | None => String::new(),
    };
    Ok(ListNamespacesResponse { namespaces: found.iter().map(told).collect(), next_page_token })
}

fn told(namespace: &Namespace) -> crate::proto::Namespace {
    crate::proto::Namespace {
        name: namespace.name.to_string(),
        create_time: Some(time::timestamp(namespace.create_time)),
    }
}
