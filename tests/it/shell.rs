//! The program itself: it starts, says where, answers, and leaves nothing behind. Below: the verbs that ask a server.

mod doctor;
mod doctor_states;
mod held;
mod jobs;
mod keys;
mod mistakes;
mod permits;
mod records;
mod relay;
mod secure;
mod session_files;
mod session_watch;
mod sessions;
mod stages;
mod steer;
mod top;
mod tour;
mod verb;
mod watch;
mod work;
mod work_stops;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use interlock::proto::ListNamespacesRequest;
use interlock::proto::admin_service_client::AdminServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// A running `interlock dev`; killed when a test fails.
struct Dev {
    child: Child,
    address: String,
}

impl Dev {
    fn start() -> Dev {
        let mut child = Command::new(env!("CARGO_BIN_EXE_interlock"))
            .args(["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--namespace", "team"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        // The rest of the banner fits into the pipe, so it need not be read.
        let mut reader = BufReader::new(stdout);
        reader.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ");
        let address = address.expect("the line for programs").to_owned();
        // Closing the pipe now would end the program at its next print.
        std::mem::forget(reader);
        Dev { child, address }
    }

    async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address));
        let endpoint = endpoint.expect("a URI");
        endpoint.connect().await.expect("a connection")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// The process ids of its Postgres.
    fn postgres(&self) -> Vec<String> {
        let pid = self.child.id();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let children =
            |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        tasks
            .flatten()
            .map(children)
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter(|pid| is_postgres(pid))
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Whether the process lives and is Postgres; one that waits to be reaped has no command line any more.
fn is_postgres(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("cmdline"))
        .is_ok_and(|command| command.contains("bin/postgres"))
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "did not become true in time");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn dev_serves_health_and_reflection_and_stops_in_good_order() {
    let mut dev = Dev::start();
    let channel = dev.connect().await;
    let request = ListNamespacesRequest::default();
    let namespaces = AdminServiceClient::new(channel.clone()).list_namespaces(request).await.expect("an answer");
    let namespaces: Vec<_> = namespaces.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect();
    assert_eq!(namespaces, ["default", "team"]);
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.expect("an answer");
    assert_eq!(health.into_inner().status(), ServingStatus::Serving);

    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .expect("an answer")
        .into_inner();
    let answer = answers.message().await.expect("no error").expect("one");
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("not a list of services");
    };
    let names: Vec<_> = services.service.iter().map(|it| it.name.as_str()).collect();
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let postgres = dev.postgres();
    assert_eq!(postgres.len(), 1);
    dev.signal(Signal::TERM);
    // This blocks the runtime of the client, so that it hangs like one that was suspended. No test waits for it.
    let stopping = Instant::now();
    let status = dev.child.wait().expect("its status");
    assert!(stopping.elapsed() < Duration::from_secs(15));
    assert!(status.success(), "{status}");
    assert!(!is_postgres(&postgres[0]));
}

#[test]
fn dev_tells_of_a_port_in_use_before_it_starts_postgres() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    // Postgres cannot be started from there: if it were tried first, this would be the error.
    let arguments = ["dev", "--ephemeral", "--listen", &address, "--postgres-bin", "/nowhere"];
    let output = Command::new(env!("CARGO_BIN_EXE_interlock")).args(arguments).output().expect("the program");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = format!("error: --listen: cannot listen on {address}: another program listens there; ");
    assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn postgres_does_not_outlive_a_killed_server() {
    let dev = Dev::start();
    let postgres = dev.postgres();
    assert_eq!(postgres.len(), 1);
    dev.signal(Signal::KILL);
    eventually(|| !is_postgres(&postgres[0]));
}
