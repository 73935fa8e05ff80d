//! Upper limit for watching: a plain `tokio::sync::broadcast` behind a tonic stream of the same message, produced as
//! fast as the slowest reader takes it. No database, no resumption, no guarantees.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use http::Request;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::service::Routes;
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use crate::admission::{Methods, Statistics};
use crate::config::Config;
use crate::proto::{self, watch_job_response::Update};
use crate::server;

/// Maximum number of messages that wait for the slowest reader.
const CAPACITY: usize = 1_024;
/// Number of messages produced at once.
const BURST: usize = 32;
/// Interval of checks if the slowest reader has caught up.
const PAUSE: Duration = Duration::from_micros(500);

type BroadcastItem = Result<proto::WatchJobResponse, Status>;

/// Serves the broadcast until a signal.
///
/// # Errors
/// If the address is in use.
pub async fn serve(config: &Config, announce: impl FnOnce(std::net::SocketAddr)) -> anyhow::Result<()> {
    let shutdown = server::on_signals()?;
    let (sender, _) = broadcast::channel(CAPACITY);
    tokio::spawn(produce(sender.clone()));
    let routes = Routes::new(Jobs(sender));
    let listener = TcpListener::bind(config.listen).await?;
    announce(listener.local_addr()?);
    let statistics = Arc::new(Statistics::new(Methods::from_descriptors(&[proto::FILE_DESCRIPTOR_SET])?));
    server::serve(listener, routes, server::Options::new(config, statistics), shutdown).await
}

async fn produce(sender: broadcast::Sender<proto::WatchJobResponse>) {
    let mut version = 0;
    loop {
        if sender.receiver_count() == 0 || sender.len() + BURST > CAPACITY / 2 {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        for _ in 0..BURST {
            version += 1;
            // An error means that there is no receiver: nothing is lost.
            let _no_watcher = sender.send(change(version));
        }
        tokio::task::yield_now().await;
    }
}

/// The message that the server sends for a step of progress.
fn change(version: i64) -> proto::WatchJobResponse {
    let stage = proto::Stage {
        name: "s3".to_owned(),
        queue: "default".to_owned(),
        state: proto::StageState::Running.into(),
        version,
        attempt: 1,
        max_attempts: 3,
        progress: 0.5,
        message: format!("{version} by 64"),
        start_time: Some(std::time::SystemTime::now().into()),
        weight: 1.0,
        direct: true,
        on_failure: proto::StageOnFailure::FailJob.into(),
        depends_when: proto::StageDependsWhen::AllSucceeded.into(),
        ..Default::default()
    };
    let change = proto::JobChange {
        job_id: "hot-0".to_owned(),
        version,
        previous_version: version - 1,
        state: proto::JobState::Running.into(),
        progress: 0.5,
        stages: vec![stage],
        change_time: Some(std::time::SystemTime::now().into()),
        run: 1,
        stage_counts: Some(proto::StageCounts { total: 7, running: 7, ..Default::default() }),
        ..Default::default()
    };
    proto::WatchJobResponse { update: Some(Update::Change(change.encode_to_vec().into())) }
}

#[derive(Clone)]
struct Jobs(broadcast::Sender<proto::WatchJobResponse>);

impl NamedService for Jobs {
    const NAME: &'static str = "interlock.v1.JobService";
}

impl Service<Request<Body>> for Jobs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = Watch(self.0.clone());
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).server_streaming(method, request).await) })
    }
}

struct Watch(broadcast::Sender<proto::WatchJobResponse>);

impl ServerStreamingService<proto::WatchJobRequest> for Watch {
    type Response = proto::WatchJobResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = BroadcastItem> + Send>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: tonic::Request<proto::WatchJobRequest>) -> Self::Future {
        let receiver = self.0.subscribe();
        Box::pin(async move {
            let responses = stream::unfold(receiver, |mut receiver| async move {
                let response = receiver.recv().await.map_err(|error| Status::data_loss(error.to_string()));
                Some((response, receiver))
            });
            Ok(Response::new(Box::pin(responses) as Self::ResponseStream))
        })
    }
}
